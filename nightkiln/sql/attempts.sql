-- One row per try. What the tries that gave nothing cost is the waste of a batch.
create or replace view attempts as
select
    a.* exclude (i),
    cast(case when l.busy_s = 0 then 0 else l.usd * a.gpu_seconds / l.busy_s end
        as decimal(18, 9)) as usd
from (
    select
        job_id, batch, dt, catalog, i,
        att_id[i] as attempt_id,
        att_lease_id[i] as lease_id,
        att_provider[i] as provider,
        att_host[i] as host,
        att_gpu[i] as gpu,
        att_started_at[i] as started_at,
        att_finished_at[i] as finished_at,
        att_gpu_seconds[i] as gpu_seconds,
        att_status[i] as status,
        att_fault[i] as fault,
        att_error[i] as error
    from (
{{numbered}}
    )
) a
-- Grouped, so that DuckDB knows that there is one row per lease, and leaves the join out of every
-- question that does not ask for money.
left join (
    select lease_id, any_value(usd) as usd, any_value(busy_s) as busy_s from leases group by lease_id
) l on a.lease_id = l.lease_id;
