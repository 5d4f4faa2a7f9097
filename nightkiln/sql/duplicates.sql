-- One row per file that came out of more than one seed: a seed that goes nowhere, most often. Files
-- are compared, not pixels, and ComfyUI writes the seed into a PNG unless it is told not to.
-- Suspects are found by short hashes of their digests: those of all pictures would fill memory.
create or replace view duplicates as
with suspects as (
    select hash(sha256) as suspect
    from outputs
    where seed is not null
    group by suspect
    having min(seed) <> max(seed)
)
select
    sha256,
    count(distinct seed) as seeds,
    count(distinct job_id) as jobs,
    count(distinct batch) as batches,
    count(distinct prompt) as prompts,
    list_sort(list(distinct catalog)) as catalogs,
    list_sort(min(seed, 10)) as example_seeds,
    arg_min(uri, seed, 10) as example_uris,
    any_value(prompt) as example_prompt,
    any_value(media) as media,
    any_value(bytes) as bytes,
    max(finished_at) as last_at
from outputs
where seed is not null and hash(sha256) in (select suspect from suspects)
group by sha256
having count(distinct seed) > 1;
