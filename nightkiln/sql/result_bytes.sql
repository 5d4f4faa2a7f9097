-- How many jobs of a workflow are done, at most so many, and the bytes of all their files.
select count(*), coalesce(sum(bytes), 0)
from (
    select list_sum(out_bytes) as bytes
    from _results
    where workflow_digest = ? and status = 'done'
    limit ?
);
