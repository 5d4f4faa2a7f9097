-- One row per batch: what its latest run says, and how many runs it took.
create or replace view batches as
select
    batch,
    any_value(dt) as dt,
    arg_max(catalog, epoch) as catalog,
    count(*) as runs,
    min(started_at) as started_at,
    arg_max({'at': ended_at}, epoch).at as ended_at,
    arg_max({'n': jobs_total}, epoch).n as jobs_total,
    arg_max({'n': done}, epoch).n as done,
    arg_max({'n': reused}, epoch).n as reused,
    arg_max({'n': failed}, epoch).n as failed,
    arg_max({'code': exit_code}, epoch).code as exit_code,
    arg_max(host, epoch) as host,
    arg_max(workflow_digest, epoch) as workflow_digest,
    arg_max(environment_digest, epoch) as environment_digest
from runs
group by batch;
