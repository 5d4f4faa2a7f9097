-- No provider's bill has been read into this store yet.
create or replace view charges as
select
    cast(null as varchar) as lease_id, cast(null as varchar) as provider,
    cast(null as timestamp) as read_at, cast(null as decimal(12, 6)) as usd,
    cast(null as decimal(12, 6)) as usd_gpu, cast(null as decimal(12, 6)) as usd_storage,
    cast(null as decimal(12, 6)) as usd_in, cast(null as decimal(12, 6)) as usd_out,
    cast(null as decimal(12, 6)) as usd_other, cast(null as int) as schema_version,
    cast(null as date) as dt
where false;
