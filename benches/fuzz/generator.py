"""Random requests, each a function of the run's seed and its own number, so that one can be made again alone."""

import json
import random
import string

WORDS = ["a", "b", "items", "price", "$id", "in $", "match(x)", "C:\\", "ключ", "", "0", "__proto__", "id", "x" * 300]
NUMBERS = [0, -1, 1, 0.5, -0.0, 1e308, 5e-324, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**30, 1e-9]


class Json:
    """JSON values of bounded depth; now and then large or deep ones."""

    def __init__(self, source):
        self.source = source

    def text(self):
        r = self.source
        if r.random() < 0.8:
            return r.choice(WORDS)
        return r.choice(
            [
                "".join(r.choice(string.ascii_letters + string.punctuation + " \n") for _ in range(r.randrange(40))),
                "é\u0007😀" * r.randrange(4) if r.random() < 0.9 else "\u0000",
                "y" * r.choice([1, 200, 201, 5_000]),
            ]
        )

    def value(self, depth=4):
        r = self.source
        kind = r.randrange(8 if depth else 6)
        if kind == 0:
            return None
        if kind == 1:
            return r.random() < 0.5
        if kind in (2, 3):
            return r.choice(NUMBERS) if r.random() < 0.5 else r.randrange(-1000, 1000)
        if kind in (4, 5):
            return self.text()
        if kind == 6:
            return [self.value(depth - 1) for _ in range(r.randrange(4))]
        return {self.text(): self.value(depth - 1) for _ in range(r.randrange(4))}

    def big(self):
        """A value that is deep, wide or long."""
        r = self.source
        kind = r.randrange(3)
        if kind == 0:
            value = 1
            for _ in range(r.choice([20, 60, 100, 130, 1_000])):
                value = [value] if r.random() < 0.5 else {"a": value}
            return value
        if kind == 1:
            return list(range(r.choice([1_000, 20_000])))
        return "z" * r.choice([10_000, 300_000])


class Definitions:
    """Workflow definitions: well formed, nearly so, and not."""

    def __init__(self, source):
        self.source, self.json = source, Json(source)

    def path(self, steps):
        r = self.source
        base = r.choice(["$.inputs", "$.inputs", "$.steps.%s.output" % r.choice(steps or ["none"]), "$", "$.output"])
        for _ in range(r.randrange(5)):
            base += r.choice([".a", ".items[*]", "[0]", "[0,0,0]", "..a", "..*", "[\"a\"]", "[?@.a>1]", "[-1:]", "[::2]"])
            if r.random() < 0.03:
                base += r.choice(["['%s']" % r.choice(WORDS), "[?(@"])
        return base

    def template(self, steps):
        return "%s {{%s}} %s" % (self.json.text(), self.path(steps), "{{a}}" * self.source.choice([0, 1, 50]))

    def operand(self, steps):
        r = self.source
        return r.choice([self.path(steps), self.template(steps), self.json.value(2)])

    def program(self):
        r = self.source
        parts = [".", ".a", ".[]?", "map(.)", "length", "tojson", "keys?", "add", "[., .]", "..", "range(1e9)", "def f: f; f", "[limit(3; repeat(1))]"]
        parts += ["{a: .}", "tostring", "test(\"(a+)+$\")?", ".[0,0,0]", "first", "not", "1/0", "@base64d", "reduce range(100) as $i (.; [., .])", "splits(\"\")?"]
        return " | ".join(r.choice(parts) for _ in range(1 + r.randrange(4)))

    def action(self, steps):
        r = self.source
        kind = r.choice(["jq", "check", "http", "policy", "job", "agent", "train", "command", "none"] if r.random() < 0.15 else ["jq", "none"])
        if kind == "jq":
            return "data_processing", {"kind": "jq", "program": self.program()}
        if kind == "check":
            schema = {"type": r.choice(["object", "array"] * 5 + ["wrong"]), "pattern": "(a|a)*b" * r.choice([1, 20])}
            return "verification", {"kind": "check", "schema": schema, "assert": self.program()}
        if kind == "http":
            return "custom", {"kind": "http", "endpoint": "nowhere", "body": self.operand(steps)}
        if kind == "policy":
            return "inference", {"kind": "policy", "policy": r.choice(["p", "p@1", self.path(steps)])}
        if kind == "job":
            request = {"model": "m", "prompt": self.operand(steps), "max_tokens": r.choice(NUMBERS)}
            return "inference", {"kind": "job", "service": r.choice(["llm_inference", "whisper", "x"]), "request": request, "max_price": r.choice(NUMBERS)}
        if kind == "agent":
            return "custom", {"kind": "agent", "task_type": "text_processing", "request": {"a": self.operand(steps)}, "max_price": 0.1}
        if kind == "train":
            settings = {"learning_rate": r.choice(NUMBERS)}
            return "training", {"kind": "train", "policy": "p", "environment": "x", "algorithm": "ppo", "steps": r.choice(NUMBERS), "settings": settings}
        if kind == "command":
            return "custom", {"kind": "command", "argv": ["true", self.operand(steps)], "requirements": {"memory_mb": r.choice(NUMBERS)}}
        return r.choice(["custom"] * 20 + ["what"]), None

    def workflow(self):
        r, steps = self.source, {}
        for number in range(r.choice([0, 1, 2, 3, 5, 40])):
            names = list(steps)
            step_type, action = self.action(names)
            step = {"step_type": step_type}
            if action is not None:
                step["action"] = action
            if r.random() < 0.7:
                step["input_mappings"] = {r.choice(["a", "b", "items", self.json.text()]): self.operand(names) for _ in range(r.randrange(3))}
            if r.random() < 0.1:
                step["output_mappings"] = {self.json.text(): self.operand(names)}
            if names and r.random() < 0.7:
                step["depends_on"] = r.sample(names, r.randrange(1, min(3, len(names)) + 1))
            if r.random() < 0.03:
                step[r.choice(["timeout_seconds", "max_retries", "retry_policy", "hooks", self.json.text()])] = self.json.value(2)
            steps[r.choice(["s%d" % number] * 50 + [self.json.text()])] = step
        document = {"name": self.json.text() if r.random() < 0.05 else "n", "steps": steps, "is_public": r.random() < 0.5, "max_execution_time": r.choice([5, 30] * 50 + [-1, 2**40])}
        if r.random() < 0.05:
            document[r.choice(["tags", "dependencies", "max_cost_budget", "description", "steps"])] = self.json.value(3)
        return document


class Requests:
    """Requests to every operation of the API document; more of those that make work."""

    def __init__(self, document, seed):
        self.document, self.seed = document, seed
        self.operations = [
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if method in ("get", "post", "put", "delete") and not path.endswith(("/stream", "/events"))
        ]
        self.seen = {"workflow_id": [], "execution_id": []}

    def schema(self, schema, r, values, depth=5):
        """A value of a schema, at times one that is not."""
        if depth == 0 or r.random() < 0.08:
            return values.value(2)
        if "$ref" in schema:
            return self.schema(self.document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], r, values, depth)
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                return self.schema(r.choice(schema[choice]), r, values, depth)
        if "allOf" in schema:
            parts = [self.schema(part, r, values, depth) for part in schema["allOf"]]
            return {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}
        if "enum" in schema:
            return r.choice(schema["enum"])
        kind = schema.get("type")
        kind = r.choice(kind) if isinstance(kind, list) else kind
        if kind == "object" or "properties" in schema:
            required = schema.get("required", [])
            members = schema.get("properties", {}).items()
            return {name: self.schema(part, r, values, depth - 1) for name, part in members if name in required or r.random() < 0.3}
        if kind == "array":
            return [self.schema(schema.get("items", {}), r, values, depth - 1) for _ in range(r.randrange(4))]
        if kind == "integer":
            return r.choice([0, 1, 2, 10, r.randrange(1000), *NUMBERS])
        if kind == "number":
            return r.choice([0.5, r.random(), *NUMBERS])
        if kind == "boolean":
            return r.random() < 0.5
        if kind == "null":
            return None
        return r.choice(["agent-%d" % r.randrange(8), values.text()])

    def identifier(self, name, r, values):
        known = self.seen.get(name)
        if known and r.random() < 0.8:
            return r.choice(known[-200:])
        return r.choice(["agent-%d" % r.randrange(8), "p", "p@1", "cartpole", "llm_inference", values.text() or "x"])

    def query(self, operation, r, values):
        parameters = [p for p in operation.get("parameters", []) if p.get("in") == "query"]
        chosen = [(p["name"], self.schema(p.get("schema", {}), r, values, 1)) for p in parameters if r.random() < 0.25]
        if r.random() < 0.02:
            chosen += [("k%d" % n, n) for n in range(r.choice([10, 3_000]))]
        return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in chosen]

    def request(self, number):
        """(method, path, query, body or None, headers) of the request with this number."""
        r = random.Random("%s/%d" % (self.seed, number))
        values, definitions = Json(r), Definitions(r)
        headers = {"Idempotency-Key": "k%d" % r.randrange(10_000)} if r.random() < 0.1 else {}
        draw = r.random()
        if draw < 0.15:
            return "POST", "/api/v1/agents/workflows", [], definitions.workflow(), headers
        if draw < 0.35 and self.seen["workflow_id"]:
            workflow = r.choice(self.seen["workflow_id"][-200:])
            inputs = values.big() if r.random() < 0.05 else values.value()
            body = {"workflow_id": workflow, "inputs": inputs if isinstance(inputs, dict) else {"a": inputs, "items": [1, {"a": 2}]}}
            return "POST", "/api/v1/agents/workflows/%s/execute" % workflow, [], body, headers
        if draw < 0.45:
            agents = ["agent-%d" % r.randrange(8) for _ in range(r.randrange(1, 5))]
            body = {"sender": r.choice(agents), "recipients": agents, "content": {"a": values.value()}, "encrypt": r.random() < 0.5}
            if r.random() < 0.3:
                body["message_id"] = r.choice(["m", "m.1", "m.2", values.text()])
            return "POST", "/api/v1/agents/messages/broadcast", [], body, headers
        method, path, operation = r.choice(self.operations)
        for parameter in operation.get("parameters", []):
            if parameter.get("in") == "path":
                path = path.replace("{%s}" % parameter["name"], self.identifier(parameter["name"], r, values).replace("\n", ""))
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        body = None
        if content:
            body = values.big() if r.random() < 0.03 else self.schema(content.get("schema", {}), r, values)
        return method, path, self.query(operation, r, values), body, headers

    def learn(self, method, path, answer):
        """Remember ids that an answer made, for later requests."""
        if method == "POST" and isinstance(answer, dict) and isinstance(answer.get("id"), str):
            if path.endswith("/workflows"):
                self.seen["workflow_id"].append(answer["id"])
            elif path.endswith("/execute"):
                self.seen["execution_id"].append(answer["id"])
