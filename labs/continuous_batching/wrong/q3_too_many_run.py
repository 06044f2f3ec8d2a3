"""More run than max_running says."""


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
        while self.waiting and left:
            self.running.append(self.waiting.pop(0))
            left -= take(self.running[-1])
        for request in list(self.running):
            if request["computed"] == request["known"]:
                request["known"] += 1
                if request["known"] == request["final"]:
                    self.running.remove(request)
                    self.finished.append(request["name"])
        return plan
