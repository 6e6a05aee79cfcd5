"""Steps a second of stable-baselines3 with a row's settings, as JSON: the counterpart of `rl_scores speed ROW STEPS`.

    rl_scores plan ROW | python sb3.py ROW STEPS

One thread, on the processor. The first part of a run, before it learns, isn't measured.
"""

import contextlib
import json
import sys
import time

import gymnasium
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

FIRST = 1000


class Enough(Exception):
    """All steps are done and learnt from."""


class Stopwatch(BaseCallback):
    """Measures from one rollout's beginning to another's, so that each is learnt from within the time."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.begin, self.done, self.seconds = steps, None, 0, 0.0

    def _on_rollout_start(self):
        now = time.perf_counter()
        if self.begin is None:
            if self.num_timesteps >= FIRST:
                self.begin = (now, self.num_timesteps)
            return
        self.done, self.seconds = self.num_timesteps - self.begin[1], now - self.begin[0]
        if self.done >= self.steps:
            raise Enough

    def _on_step(self):
        return True


def ppo(plan, settings):
    environments = make_vec_env(plan["environment"], n_envs=settings["environments"], seed=plan["seed"])
    rate = settings["learning_rate"]
    return stable_baselines3.PPO(
        "MlpPolicy",
        environments,
        learning_rate=(lambda left: left * rate) if settings["anneal"] else rate,
        n_steps=settings["rollout"],
        batch_size=settings["batch"],
        n_epochs=settings["epochs"],
        gamma=settings["gamma"],
        gae_lambda=settings["lambda"],
        clip_range=settings["clip"],
        clip_range_vf=settings["clip"] if settings["clip_value"] else None,
        ent_coef=settings["entropy"],
        vf_coef=settings["critic"] / 2,  # ours is half the squared error
        max_grad_norm=settings["gradient"],
        policy_kwargs={"net_arch": settings["hidden"], "activation_fn": torch.nn.ReLU},
        seed=plan["seed"],
        device="cpu",
    )


def sac(plan, settings):
    return stable_baselines3.SAC(
        "MlpPolicy",
        gymnasium.make(plan["environment"]),
        learning_rate=settings["learning_rate"],
        buffer_size=settings["replay"],
        learning_starts=settings["warmup"],
        batch_size=settings["batch"],
        tau=settings["tau"],
        gamma=settings["gamma"],
        ent_coef=f"auto_{settings['temperature']}",
        policy_kwargs={"net_arch": settings["hidden"]},
        seed=plan["seed"],
        device="cpu",
    )


def main():
    row, steps = sys.argv[1], int(sys.argv[2])
    plan = json.load(sys.stdin)
    torch.set_num_threads(1)
    model = {"ppo": ppo, "sac": sac}[plan["algorithm"]](plan, plan["settings"])
    watch = Stopwatch(steps)
    with contextlib.suppress(Enough):
        model.learn(100 * steps, callback=watch)
    who = f"stable-baselines3 {stable_baselines3.__version__}"
    print(json.dumps({"row": row, "who": who, "steps": watch.done, "seconds": watch.seconds}))


if __name__ == "__main__":
    main()
