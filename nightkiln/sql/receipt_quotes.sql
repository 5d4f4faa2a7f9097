-- Quotes of a batch; times are epoch seconds.
select
    epoch, verdict, jobs, budget_usd, usd_p50, usd_p90, finish_s_p50, finish_s_p90,
    deadline_met_fraction,
    epoch_us(decided_at) / 1e6 as decided_s,
    epoch_us(deadline_at) / 1e6 as deadline_s
from quotes
where batch = $batch
order by epoch;
