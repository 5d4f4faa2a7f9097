-- One row per file of a finished job: the file's own facts, and what its job says.
create or replace temp view exportable as
select
    o.index, o.node, o.uri, o.sha256, o.bytes, o.media, o.width, o.height,
    {{columns}}
from jobs j
join outputs o using (batch, job_id)
where j.status in ('done', 'reused');
