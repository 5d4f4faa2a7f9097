-- The newest verified result of every job that another batch rendered, to be reused.
create or replace temporary view done_elsewhere as
with done as (
    select
        job_id, batch, finished_at, filename,
        out_index, out_node, out_uri, out_sha256, out_bytes, out_media, out_width, out_height
    from read_parquet({{results}}, hive_partitioning = true, hive_types = {'dt': date})
    where status = 'done' and batch <> {{batch}}
),
repeated as (
    select job_id from done group by job_id having count(*) > 1
),
losers as (
    select job_id, batch, filename
    from done semi join repeated using (job_id)
    qualify row_number() over (
        partition by job_id order by finished_at desc, batch, filename
    ) > 1
)
select * exclude (filename)
from done anti join losers using (job_id, batch, filename);
