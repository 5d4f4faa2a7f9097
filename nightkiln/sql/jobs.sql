-- One row per job of a batch, with what it cost: the lease's cost x the job's share of the time
-- that the lease was busy. usd is null until the lease is over.
create or replace view {{view}} as
select
    s.job_id, s.batch, s.dt, s.epoch, s.catalog, s.status, s.fault, s.error,
    s.prompt, s.negative, s.seed, s.width, s.height,
    s.out_uri[1] as uri,
    s.out_sha256[1] as sha256,
    len(s.out_index) as output_count,
    s.provider, s.gpu, s.host, s.lease_id, s.attempt_count,
    s.queued_at, s.started_at, s.finished_at, s.queue_s, s.gpu_seconds, s.download_s,
    cast(s.usd_marginal + case
        when s.lease_id is null then 0
        when l.busy_s = 0 then 0
        else l.usd * s.gpu_seconds / l.busy_s
    end as decimal(18, 9)) as usd,
    s.usd_marginal, s.workflow_digest, s.environment_digest,
    s.columns ->> '/nightkiln_replaces' as replaces,
    s.row, s.rows, s.columns, s.params, s.commit_key, s.schema_version{{unfolded}}
from _settled s
-- Grouped, so that DuckDB knows that there is one row per lease, and leaves the join out of every
-- question that does not ask for money.
left join (
    select lease_id, any_value(usd) as usd, any_value(busy_s) as busy_s from leases group by lease_id
) l on s.lease_id = l.lease_id{{where}};
