"""The monolith's stack (FastAPI, SQLModel, SQLite) with the one route that reads an agent's profile, from the same table: the peer to be
measured against.

    PEER_DB=coordinator.db uvicorn peer:app --port 8263 --log-level warning
"""

import os
from datetime import datetime

from fastapi import Depends, FastAPI, Header, HTTPException
from sqlalchemy import event
from sqlmodel import JSON, Column, Field, Session, SQLModel, create_engine, select

engine = create_engine(f"sqlite:///{os.environ['PEER_DB']}", connect_args={"check_same_thread": False}, pool_size=20, max_overflow=40)


@event.listens_for(engine, "connect")
def pragmas(connection, _record):
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        connection.execute(f"pragma {pragma}")


def document():
    return Field(default=None, sa_column=Column(JSON))


class Profile(SQLModel, table=True):
    __tablename__ = "agent_performance_profiles"
    id: str = Field(primary_key=True)
    profile_id: str
    agent_id: str = Field(index=True)
    agent_type: str
    agent_version: str
    overall_score: float
    performance_metrics: dict = document()
    learning_strategies: list = document()
    adaptation_rate: float
    generalization_score: float
    resource_efficiency: dict = document()
    cost_per_task: float
    throughput: float
    average_latency: float
    specialization_areas: list = document()
    expertise_levels: dict = document()
    performance_history: list = document()
    improvement_trends: dict = document()
    benchmark_scores: dict = document()
    ranking_position: int | None
    percentile_rank: float | None
    created_at: datetime
    updated_at: datetime
    last_assessed: datetime | None
    performance_notes: str


app = FastAPI()


def session():
    with Session(engine) as opened:
        yield opened


def caller(x_api_key: str | None = Header(default=None)):
    if not x_api_key:
        raise HTTPException(401, "invalid api key")
    return x_api_key


@app.get("/api/v1/agents/performance/profiles/{agent_id}")
async def one(agent_id: str, db: Session = Depends(session), _: str = Depends(caller)) -> Profile:
    row = db.execute(select(Profile).where(Profile.agent_id == agent_id)).scalars().first()
    if row is None:
        raise HTTPException(404, f"Profile for agent {agent_id} not found")
    return row
