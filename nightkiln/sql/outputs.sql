-- One row per file. The lists are taken apart by position: of parallel unnests DuckDB would read
-- every list, named in the query or not.
create or replace view outputs as
select
    job_id, batch, dt, catalog, status,
    out_index[i] as index,
    out_node[i] as node,
    out_uri[i] as uri,
    out_sha256[i] as sha256,
    out_bytes[i] as bytes,
    out_media[i] as media,
    out_width[i] as width,
    out_height[i] as height,
    out_verified[i] as verified,
    prompt, seed, provider, gpu, host, finished_at
from (select *, unnest(range(1, len(out_index) + 1)) as i from _settled);
