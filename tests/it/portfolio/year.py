"""Recomputes a year of a portfolio from its records: prices, deposits, trades and the times of snapshots.

Reads what the service recorded and reported as JSON, computes every figure of the report by itself with NumPy (and decimals
where amounts are exact), and fails where one differs by more than 1e-9.

    python3 year.py report.json
"""

import json
import sys
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from statistics import NormalDist

import numpy as np

UNIT = Decimal("0.00000001")
YEAR_DAYS = 365.0
compared = 0


def near(name, found, wanted):
    """Compares a reported figure."""
    global compared
    compared += 1
    if found is None or abs(float(found) - float(wanted)) > 1e-9 * max(1.0, abs(float(wanted))):
        sys.exit(f"{name}: the report has {found}, recomputed {wanted}")


def same(name, found, wanted):
    """Compares an exact amount."""
    global compared
    compared += 1
    if Decimal(found) != wanted:
        sys.exit(f"{name}: the report has {found}, recomputed {wanted}")


def down(value):
    return value.quantize(UNIT, ROUND_FLOOR)


def up(value):
    return value.quantize(UNIT, ROUND_CEILING)


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class Book:
    """Holdings, what was invested in each token, and the worth of a unit."""

    def __init__(self, prices):
        self.prices = {token: [(moment(at), price) for at, price in points] for token, points in prices.items()}
        self.place = {token: 0 for token in prices}
        self.held, self.invested = {}, {}
        self.costs, self.unit, self.after = Decimal(0), 1.0, Decimal(0)

    def price(self, token, at):
        if token == "AIT":
            return Decimal(1)
        points, place = self.prices[token], self.place[token]
        while place + 1 < len(points) and points[place + 1][0] <= at:
            place += 1
        self.place[token] = place
        return points[place][1]

    def values(self, at):
        return {token: down(amount * self.price(token, at)) for token, amount in self.held.items()}

    def record(self, at, flow):
        """The value before a flow; the worth of a unit follows it."""
        values = self.values(at)
        value = sum(values.values(), Decimal(0))
        if self.after > 0:
            self.unit *= float(value) / float(self.after)
        self.after = value + flow
        return {
            "at": at, "value": value, "flow": flow, "unit": self.unit, "values": values,
            "invested": dict(self.invested), "costs": self.costs,
        }

    def move(self, token, amount, value):
        self.held[token] = self.held.get(token, Decimal(0)) + amount
        self.invested[token] = self.invested.get(token, Decimal(0)) + value


def replay(report):
    """All events in their order; answers the records of value."""
    book, records, events = Book(report["prices"]), [], []
    events += [(moment(flow["created_at"]), 0, flow["id"], "flow", flow) for flow in report["flows"]]
    events += [(moment(trade["created_at"]), 0, trade["id"], "trade", trade) for trade in report["trades"]]
    events += [(moment(shot["snapshot_date"]), 1, shot["id"], "snapshot", shot) for shot in report["snapshots"]]
    fee, slippage = Decimal(report["fee_bps"]) / 10000, Decimal(report["slippage_bps"]) / 10000
    for at, _, _, kind, event in sorted(events, key=lambda event: event[:3]):
        if kind == "flow":
            amount, price = event["amount"], book.price(event["token"], at)
            value = down(amount * price)
            same("a flow's price", event["price"], price)
            same("a flow's value", event["value"], value)
            sign = 1 if event["direction"] == "deposit" else -1
            records.append(book.record(at, sign * value))
            book.move(event["token"], sign * amount, sign * value)
        elif kind == "trade":
            terms = event["terms"]
            sell, buy, sold = event["sell_token"], event["buy_token"], event["sell_amount"]
            sell_price, buy_price = book.price(sell, at), book.price(buy, at)
            gross = down(sold * sell_price / buy_price)
            lost = up(gross * slippage)
            bought = gross - lost
            paid = up(bought * fee)
            received = bought - paid
            for name, wanted in [
                ("sell_price", sell_price), ("buy_price", buy_price), ("slippage_amount", lost), ("buy_amount", bought),
                ("fee_amount", paid), ("received_amount", received), ("sell_value", down(sold * sell_price)),
                ("received_value", down(received * buy_price)),
            ]:
                same(f"trade {event['id']}: {name}", terms[name], wanted)
            near(f"trade {event['id']}: price", event["price"], float(bought) / float(sold))
            book.costs += terms["sell_value"] - terms["received_value"]
            book.move(sell, -sold, -terms["sell_value"])
            book.move(buy, received, terms["received_value"])
        else:
            records.append(book.record(at, Decimal(0)))
            near(f"snapshot {event['id']}", event["total_value"], records[-1]["value"])
            near(f"snapshot {event['id']}: unit", event["performance_metrics"]["unit_value"], book.unit)
            near(f"snapshot {event['id']}: costs", event["performance_metrics"]["costs"], book.costs)
            held = [token for token, amount in book.held.items() if amount > 0]
            same(f"snapshot {event['id']}: count", event["asset_count"], len(held))
    return book, records


def money_weighted(flows):
    """The yearly rate at which the flows are worth nothing, by bisection."""
    years, amounts = np.array([year for year, _ in flows]), np.array([amount for _, amount in flows])
    low, high = np.log(0.01), np.log(100.0)
    worth = lambda growth: float(np.sum(amounts * np.exp(-growth * years)))
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if worth(middle) > 0 else (low, middle)
    return float(np.exp(low) - 1)


def daily_figures(name, found, returns):
    mean, deviation, root = returns.mean(), returns.std(ddof=1), np.sqrt(YEAR_DAYS)
    units = np.concatenate([[1.0], np.cumprod(1 + returns)])
    deepest = float((units / np.maximum.accumulate(units) - 1).min())
    yearly = float(units[-1] ** (YEAR_DAYS / len(returns)) - 1)
    downside = np.sqrt(np.mean(np.minimum(returns, 0) ** 2)) * root
    near(f"{name}: observations", found["observations"], len(returns))
    near(f"{name}: volatility", found["volatility"], deviation * root)
    near(f"{name}: max_drawdown", found["max_drawdown"], deepest)
    near(f"{name}: sharpe_ratio", found["sharpe_ratio"], mean / deviation * root)
    near(f"{name}: sortino_ratio", found["sortino_ratio"], mean * YEAR_DAYS / downside)
    near(f"{name}: calmar_ratio", found["calmar_ratio"], yearly / abs(deepest))
    near(f"{name}: win_rate", found["win_rate"], np.mean(returns > 0))
    near(f"{name}: profit_factor", found["profit_factor"], returns[returns > 0].sum() / -returns[returns < 0].sum())
    return deviation * root, deepest


def main():
    report = json.load(open(sys.argv[1]), parse_float=Decimal)
    book, records = replay(report)
    # What is held at the end, to the last unit.
    holdings = {asset["token_symbol"]: asset for asset in report["holdings"]["assets"]}
    for token, amount in book.held.items():
        same(f"holding of {token}", holdings[token]["balance"], amount)
    begin, end = records[0], records[-1]
    seconds = (end["at"] - begin["at"]).total_seconds()
    years = lambda at: (at - begin["at"]).total_seconds() / (YEAR_DAYS * 86400)
    flows = [record for record in records[1:-1] if record["flow"] != 0]
    net = sum((record["flow"] for record in flows), Decimal(0))
    opening = begin["value"] + begin["flow"]

    performance = report["performance"]
    same("begin_value", performance["begin_value"], opening)
    same("end_value", performance["end_value"], end["value"])
    same("net_flow", performance["net_flow"], net)
    same("gain", performance["gain"], end["value"] - opening - net)
    same("costs", performance["costs"], end["costs"] - begin["costs"])
    total = end["unit"] / begin["unit"] - 1
    near("total_return", performance["total_return"], total)
    near("annualized_return", performance["annualized_return"], (1 + total) ** (YEAR_DAYS * 86400 / seconds) - 1)
    paid = [(0.0, -float(opening))] + [(years(record["at"]), -float(record["flow"])) for record in flows]
    rate = money_weighted(paid + [(years(end["at"]), float(end["value"]))])
    near("money_weighted_return", performance["money_weighted_return"], rate)

    # The last record of each day.
    units = {record["at"].date().isoformat(): record["unit"] for record in records}
    days = sorted(units)
    series = np.array([units[day] for day in days])
    returns = series[1:] / series[:-1] - 1
    daily_figures("performance", performance, returns)

    attribution = report["attribution"]
    capital = float(opening) + sum(
        float(record["flow"]) * (end["at"] - record["at"]).total_seconds() / seconds for record in flows
    )
    near("average_capital", attribution["average_capital"], capital)
    gains = Decimal(0)
    for asset in attribution["assets"]:
        token = asset["token"]
        zero = Decimal(0)
        first, last = begin["values"].get(token, zero), end["values"].get(token, zero)
        invested = end["invested"].get(token, zero) - begin["invested"].get(token, zero)
        gain = last - first - invested
        gains += gain
        same(f"{token}: begin_value", asset["begin_value"], first)
        same(f"{token}: end_value", asset["end_value"], last)
        same(f"{token}: net_invested", asset["net_invested"], invested)
        same(f"{token}: gain", asset["gain"], gain)
        near(f"{token}: contribution", asset["contribution"], float(gain) / capital)
    same("attributed costs", attribution["costs"], end["costs"] - begin["costs"])
    same("attributed gain", attribution["gain"], gains - attribution["costs"])
    same("attributed gain is the gain", attribution["gain"], end["value"] - opening - net)

    risk = report["risk"]
    volatility, deepest = daily_figures("risk", risk, returns)
    ordered = np.sort(returns)
    var = {share: float(np.quantile(returns, 1 - share)) for share in (0.95, 0.99)}
    tail = lambda share: ordered[: int(np.floor(round((len(ordered) - 1) * (1 - share), 9))) + 1].mean()
    near("var_95", risk["var_95"], var[0.95])
    near("var_99", risk["var_99"], var[0.99])
    for share, name in [(0.05, "gaussian_var_95"), (0.01, "gaussian_var_99")]:
        near(name, risk[name], returns.mean() + returns.std(ddof=1) * NormalDist().inv_cdf(share))
    near("cvar_95", risk["cvar_95"], tail(0.95))
    closes = {
        token: {at[:10]: float(price) for at, price in points} for token, points in report["prices"].items()
    }
    market = np.array([closes[risk["benchmark"]][day] for day in days])
    market = market[1:] / market[:-1] - 1
    beta = np.cov(returns, market, ddof=1)[0, 1] / market.var(ddof=1)
    near("beta", risk["beta"], beta)
    near("alpha", risk["alpha"], (1 + returns.mean() - beta * market.mean()) ** YEAR_DAYS - 1)
    clip = lambda value: min(1.0, max(0.0, value))
    score = 100 * (0.4 * clip(volatility / 0.8) + 0.4 * clip(-deepest / 0.5) + 0.2 * clip(-tail(0.95) / 0.1))
    near("overall_risk_score", risk["overall_risk_score"], score)
    level = "low" if score < 25 else "medium" if score < 50 else "high" if score < 75 else "critical"
    if risk["risk_level"] != level:
        sys.exit(f"risk_level: the report has {risk['risk_level']}, recomputed {level}")
    tokens = risk["correlation_matrix"]["tokens"]
    table = np.array([[closes[token][day] for day in sorted(closes[token])] for token in tokens])
    matrix = np.corrcoef(table[:, 1:] / table[:, :-1] - 1)
    for row, one in enumerate(tokens):
        for column, other in enumerate(tokens):
            near(f"correlation of {one} and {other}", risk["correlation_matrix"]["matrix"][row][column], matrix[row, column])

    rebalances = report["rebalances"]
    for rebalance in rebalances:
        own = [trade for trade in report["trades"] if trade["rebalance_id"] == rebalance["id"]]
        cost = sum((trade["terms"]["sell_value"] - trade["terms"]["received_value"] for trade in own), Decimal(0))
        near(f"rebalance {rebalance['id']}: trades", rebalance["trades_executed"], len(own))
        near(f"rebalance {rebalance['id']}: cost", rebalance["rebalance_cost"], cost)
        near(f"rebalance {rebalance['id']}: value after", rebalance["post_rebalance_value"], rebalance["pre_rebalance_value"] - cost)
    print(f"{compared} figures agree; {len(report['trades'])} trades, {len(rebalances)} rebalances, {len(days)} days")


main()
