-- What this batch has done since a certain run of it: which of the jobs that are forced are done anew.
create or replace temporary table renewed as
select distinct job_id
from _results
where dt = {{date}} and batch = {{batch}} and epoch >= {{since}} and status = 'done';
