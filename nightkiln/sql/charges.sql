-- One row per lease that a provider has billed: the latest reading of its bill.
create or replace view charges as
select *
from read_parquet('{{root}}charges/*/*.parquet', hive_partitioning = true, hive_types = {'dt': date})
qualify row_number() over (partition by lease_id order by read_at desc) = 1;
