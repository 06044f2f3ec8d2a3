"""The place of whoever leaves is free from the next step on; yours is taken in the same step."""


class Scheduler:
    def __init__(self, budget, max_running):
        self.budget, self.max_running = budget, max_running
        self.waiting, self.running, self.finished = [], [], []

    def add(self, name, n_prompt, n_answer):
        self.waiting.append({"name": name, "known": n_prompt, "computed": 0, "final": n_prompt + n_answer})

    def step(self):
        left, plan = self.budget, []

        def take(request):
            n = min(request["known"] - request["computed"], left)
            if n:
                request["computed"] += n
                plan.append((request["name"], n))
            return n

        def go_on(request):
            if request["computed"] == request["known"]:
                request["known"] += 1
                if request["known"] == request["final"]:
                    self.running.remove(request)
                    self.finished.append(request["name"])

        for request in list(self.running):
            left -= take(request)
            go_on(request)
        while self.waiting and left and len(self.running) < self.max_running:
            self.running.append(self.waiting.pop(0))
            left -= take(self.running[-1])
            go_on(self.running[-1])
        return plan
