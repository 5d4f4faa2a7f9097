-- Tries of a batch that gave no result, by how they ended.
select
    a.status as how,
    a.fault,
    coalesce(any_value(a.error), '') as error,
    count(*) as tries,
    count(distinct a.job_id) filter (j.status = 'done') as jobs_done_elsewhere
from attempts a join jobs j using (batch, job_id)
where batch = $batch and a.status <> 'done'
group by a.status, a.fault, regexp_replace(coalesce(a.error, ''), '[0-9]+', '', 'g')
order by tries desc, how, error;
