-- One row per batch and kind of failure, with an example: tries that failed or were lost, and jobs
-- that failed without one. Errors are alike when they differ in their numbers only.
create or replace view failures as
with concerned as ( -- a job that was done at once has nothing to tell
    select
        batch, job_id, dt, catalog, status, fault, error, host, finished_at, prompt, attempt_count
    from jobs
    where status = 'failed' or attempt_count > 1
),
met as (
    select
        batch, job_id, status as how, fault,
        coalesce(error, if(status = 'lost', 'lost with its machine', 'no reason was given')) as error,
        host, finished_at, 1 as tries
    from attempts
    where status in ('failed', 'lost')
    union all by name
    select
        batch, job_id, 'failed' as how, fault,
        coalesce(error, 'no reason was given') as error, host, finished_at, 0 as tries
    from concerned
    where status = 'failed' and attempt_count = 0
)
select
    m.batch, any_value(c.dt) as dt, any_value(c.catalog) as catalog,
    m.how, m.fault,
    left(regexp_replace(m.error, '[0-9]+', '#', 'g'), 200) as reason,
    cast(sum(m.tries) as bigint) as tries,
    count(distinct m.job_id) as jobs,
    count(distinct m.job_id) filter (c.status = 'failed') as jobs_failed,
    count(distinct m.job_id) filter (c.status = 'done') as jobs_done_elsewhere,
    count(distinct m.host) as hosts,
    min(m.finished_at) as first_at,
    max(m.finished_at) as last_at,
    arg_max({'x': m.job_id}, m.finished_at).x as example_job_id,
    arg_max({'x': c.prompt}, m.finished_at).x as example_prompt,
    arg_max({'x': m.host}, m.finished_at).x as example_host,
    arg_max({'x': m.error}, m.finished_at).x as example_error
from met m join concerned c using (batch, job_id)
group by m.batch, m.how, m.fault, reason;
