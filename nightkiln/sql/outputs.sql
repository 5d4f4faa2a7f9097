-- One row per file. The lists are taken apart by position: of parallel unnests DuckDB would read
-- every list, named in the query or not.
create or replace view outputs as
select
    job_id, batch, dt, catalog, status,
    i - 1 as index,
    out_node[i] as node,
    out_uri[i] as uri,
    out_sha256[i] as sha256,
    out_bytes[i] as bytes,
    out_media[i] as media,
    out_width[i] as width,
    out_height[i] as height,
    out_verified[i] as verified,
    out_pixels[i] as pixels,
    prompt, seed, provider, gpu, host, finished_at
from (
{{numbered}}
);
