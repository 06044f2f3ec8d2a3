"""The blocks of a request that is done are not free again."""


class PagedScheduler:
    def __init__(self, budget, n_blocks, P):
        self.budget, self.n_blocks, self.P = budget, n_blocks, P
        self.waiting, self.running, self.finished = [], [], []
        self.n_free = n_blocks

    def add(self, name, n_prompt, n_answer):
        if -(-(n_prompt + n_answer - 1) // self.P) > self.n_blocks:
            raise ValueError(f"{name} does not fit into {self.n_blocks} blocks")
        request = {"name": name, "known": n_prompt, "computed": 0, "final": n_prompt + n_answer, "blocks": 0}
        self.waiting.append(request)

    def step(self):
        left, plan, preempted = self.budget, [], []
        for request in list(self.running):
            n = min(request["known"] - request["computed"], left)
            if request not in self.running:
                continue
            while self._missing(request, n) > self.n_free and request in self.running:
                victim = self.running.pop()
                self.n_free += victim["blocks"]
                victim["blocks"] = victim["computed"] = 0
                self.waiting.insert(0, victim)
                preempted.append(victim["name"])
            if request in self.running:
                self._take(request, n, plan)
                left -= n
        while self.waiting and left and not preempted:
            request = self.waiting[0]
            if self._missing(request, request["known"]) > self.n_free:
                break
            self.running.append(self.waiting.pop(0))
            n = min(request["known"], left)
            self._take(request, n, plan)
            left -= n
        for request in list(self.running):
            if request["computed"] == request["known"]:
                request["known"] += 1
                if request["known"] == request["final"]:
                    self.running.remove(request)
                    self.finished.append(request["name"])
        return plan, preempted

    def _missing(self, request, n):
        return -(-(request["computed"] + n) // self.P) - request["blocks"]

    def _take(self, request, n, plan):
        missing = self._missing(request, n)
        self.n_free -= missing
        request["blocks"] += missing
        request["computed"] += n
        plan.append((request["name"], n))
