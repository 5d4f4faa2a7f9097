-- One row per finished job, its columns named as in exportable: what is counted before it is asked.
create or replace temp view exportable_jobs as
select
    {{columns}}
from jobs j
where j.status in ('done', 'reused');
