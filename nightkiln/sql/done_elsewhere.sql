-- The newest verified result of every job that another batch rendered, to be reused.
create or replace temporary view done_elsewhere as
with done as (
    select
        job_id, batch, finished_at, filename, row_in_file,
        out_index, out_node, out_uri, out_sha256, out_bytes, out_media, out_width, out_height,
        out_verified, out_pixels
    from _results
    where status = 'done' and batch <> {{batch}}
),
repeated as (
    select hash(job_id) as h from done group by h having count(*) > 1
),
losers as (
    select filename, row_in_file
    from done semi join repeated on hash(job_id) = h
    qualify row_number() over (
        partition by job_id order by finished_at desc, batch, filename, row_in_file
    ) > 1
)
select * exclude (filename, row_in_file)
from done anti join losers using (filename, row_in_file);
