-- What this batch has settled already, whichever run did it.
create or replace temporary view settled_here as
select
    job_id,
    ['done', 'reused', 'failed'][min(case status when 'done' then 1 when 'reused' then 2 else 3 end)]
        as status
from _results
where dt = {{date}} and batch = {{batch}}
group by job_id;
