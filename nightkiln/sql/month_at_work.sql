-- What runs that have not ended may still spend: the budget that each was let through with, less
-- what its leases that are over cost.
select runs.batch, runs.epoch, greatest(0, any_value(quotes.budget_usd) - coalesce(sum(leases.usd), 0))
from runs
join quotes on quotes.batch = runs.batch and quotes.epoch = runs.epoch
left join leases on leases.batch = runs.batch and leases.epoch = runs.epoch
where runs.ended_at is null and quotes.verdict = 'taken'
group by runs.batch, runs.epoch;
