"""A prompt longer than what is left of the budget is cut; yours waits until it fits whole."""


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

        for request in self.running:
            left -= take(request)
        while self.waiting and left and len(self.running) < self.max_running:
            if self.waiting[0]["known"] > left and self.running:
                break
            self.running.append(self.waiting.pop(0))
            left -= take(self.running[-1])
        for request in list(self.running):
            if request["computed"] == request["known"]:
                request["known"] += 1
                if request["known"] == request["final"]:
                    self.running.remove(request)
                    self.finished.append(request["name"])
        return plan
