//! What is offered for a transaction's gas. Without I/O.

/// Price that blocks' makers are offered beside the base fee where the node does not say what is usual, in wei.
const DEFAULT_PRIORITY: u64 = 1_000_000_000;
/// Wei in a gwei.
const GWEI: u64 = 1_000_000_000;

/// What a transaction offers: gas, and prices in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeeTerms {
    /// Gas that it may use.
    pub gas_limit: u64,
    /// Highest price of gas in all.
    pub max_fee: u64,
    /// Of that, what the block's maker gets at most.
    pub priority_fee: u64,
}

/// What a transaction offers that is to be replaced, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PaidOffer {
    /// Highest price of gas in all.
    pub max_fee: u64,
    /// Of that, what the block's maker gets at most.
    pub priority_fee: u64,
}

/// The prices of the chain, and the limits of the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeeMarket {
    /// Price that every transaction of the newest block pays, in wei.
    pub base_fee: u64,
    /// What blocks' makers are usually offered, in wei; `None`: the node does not say.
    pub priority_fee: Option<u64>,
    /// Highest price that is offered, in gwei.
    pub max_gwei: u64,
    /// Gas that one call may use.
    pub gas_limit: u64,
}

impl FeeMarket {
    /// What a call with so many trades beyond the first offers. It pays twice the base fee, so that it stays good while that doubles.
    ///
    /// # Errors
    /// When the chain asks for more than may be offered: the sentence for whoever looks.
    pub fn offer(&self, further_trades: u64) -> Result<FeeTerms, String> {
        let cap = self.max_gwei.saturating_mul(GWEI);
        if self.base_fee >= cap {
            let (asked, cap) = (self.base_fee / GWEI, self.max_gwei);
            return Err(format!("the chain asks for {asked} gwei for gas, and at most {cap} are offered"));
        }
        let priority_fee = self.priority_fee.unwrap_or(DEFAULT_PRIORITY).min(cap - self.base_fee);
        let max_fee = self.base_fee.saturating_mul(2).saturating_add(priority_fee).min(cap);
        let more = (self.gas_limit / 3).saturating_mul(further_trades);
        Ok(FeeTerms { gas_limit: self.gas_limit.saturating_add(more), max_fee, priority_fee })
    }

    /// What replaces a transaction with this offer: a quarter more at least, in all and for the block's maker, since nodes refuse a
    /// replacement that pays less than an eighth more of either.
    ///
    /// # Errors
    /// When that is more than may be offered: the sentence for whoever looks.
    pub fn raised_offer(&self, before: PaidOffer, further_trades: u64) -> Result<FeeTerms, String> {
        let offer = self.offer(further_trades)?;
        let raised = |before: u64| before.saturating_add(before / 4).saturating_add(1);
        let priority_fee = offer.priority_fee.max(raised(before.priority_fee));
        let max_fee = offer.max_fee.max(raised(before.max_fee)).max(priority_fee);
        if max_fee > self.max_gwei.saturating_mul(GWEI) {
            return Err(format!("a replacement would have to offer more than {} gwei for gas", self.max_gwei));
        }
        Ok(FeeTerms { max_fee, priority_fee, ..offer })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn market(base_fee: u64, priority_fee: Option<u64>) -> FeeMarket {
        FeeMarket { base_fee, priority_fee, max_gwei: 100, gas_limit: 300_000 }
    }

    #[test]
    fn offers_follow_the_chain_up_to_the_limit() {
        let offer = market(10 * GWEI, None).offer(2).unwrap();
        assert_eq!(offer, FeeTerms { gas_limit: 500_000, max_fee: 21 * GWEI, priority_fee: GWEI });
        assert_eq!(market(90 * GWEI, Some(20 * GWEI)).offer(0).unwrap().max_fee, 100 * GWEI);
        assert!(market(100 * GWEI, None).offer(0).unwrap_err().contains("100 gwei"));
        let paid = |max_fee, priority_fee| PaidOffer { max_fee, priority_fee };
        assert!(market(GWEI, None).raised_offer(paid(90 * GWEI, GWEI), 0).is_err());
        let raised = market(10 * GWEI, None).raised_offer(paid(16 * GWEI, 8 * GWEI), 0).unwrap();
        assert_eq!(
            (raised.max_fee, raised.priority_fee),
            (21 * GWEI, 10 * GWEI + 1),
            "the chain's price, and a quarter more"
        );
    }

    proptest! {
        /// No offer is above the limit, or gives the block's maker more than it offers in all; a replacement pays a quarter more.
        #[test]
        fn no_offer_is_above_the_limit(base in any::<u64>(), priority in prop::option::of(any::<u64>()), before in any::<u64>(), part in any::<u64>(), trades in 0u64..500) {
            let market = market(base, priority);
            let before = PaidOffer { max_fee: before, priority_fee: part.min(before) };
            for offer in [market.offer(trades), market.raised_offer(before, trades)].into_iter().flatten() {
                prop_assert!(offer.max_fee <= 100 * GWEI && offer.priority_fee <= offer.max_fee && offer.max_fee >= base);
            }
            if let Ok(raised) = market.raised_offer(before, trades) {
                prop_assert!(raised.max_fee >= before.max_fee + before.max_fee / 4);
                prop_assert!(raised.priority_fee >= before.priority_fee + before.priority_fee / 4);
            }
        }
    }
}
