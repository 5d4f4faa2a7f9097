-- One row per row of a catalog, with the outcome of its job. Rows that mean the same pixels share
-- one job, so sums of seconds belong to the view jobs.
create or replace view catalog_rows as
select
    s.batch, s.dt, s.catalog, s.row, s.job_id, s.status, s.fault, s.error,
    s.prompt, s.negative, s.seed, s.width, s.height,
    s.out_uri[1] as uri,
    s.out_sha256[1] as sha256,
    len(s.out_index) as output_count,
    s.finished_at, s.columns, s.params{{unfolded}}
from (
    select * replace (
        rows[i] as row,
        case when i = 1 then columns else more_columns[i - 1] end as columns
    )
    from (select *, unnest(range(1, len(rows) + 1)) as i from _settled)
) s;
