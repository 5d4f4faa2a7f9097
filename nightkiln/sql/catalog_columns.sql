-- Which columns every catalog has brought, oldest run first.
select catalog, columns_json
from read_parquet('{{root}}batches/*/*.parquet', hive_partitioning = false)
where phase = 'start'
order by started_at, batch, epoch;
