-- One row per picture that came out of more than one seed: a seed that goes nowhere, most often.
-- Pixels are compared, since ComfyUI writes the seed into its PNGs; files where pixels are not known.
-- Suspects are found by short hashes of their digests: those of all pictures would fill memory.
create or replace view duplicates as
with pictures as (
    select *, coalesce(pixels, sha256) as same from outputs where seed is not null
),
suspects as (
    select hash(same) as suspect
    from pictures
    group by suspect
    having min(seed) <> max(seed)
)
select
    same,
    count(distinct sha256) as files,
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
from pictures
where hash(same) in (select suspect from suspects)
group by same
having count(distinct seed) > 1;
