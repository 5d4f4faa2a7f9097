-- What went wrong in a batch, kind by kind: first what cost it jobs.
select
    how, fault, reason, tries, jobs, jobs_failed, jobs_done_elsewhere, hosts,
    example_job_id, example_prompt, example_host, example_error
from failures
where batch = $batch
order by jobs_failed desc, tries desc, reason
limit $rows_max;
