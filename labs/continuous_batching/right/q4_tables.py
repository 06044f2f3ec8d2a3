class PagedScheduler:
    def __init__(self, budget, n_blocks, P):
        self.budget, self.P = budget, P
        self.free = list(range(n_blocks))
        self.total = n_blocks
        self.waiting, self.running, self.finished = [], [], []

    @property
    def n_free(self):
        return len(self.free)

    def need(self, tokens):
        return (tokens + self.P - 1) // self.P

    def add(self, name, n_prompt, n_answer):
        if self.need(n_prompt + n_answer - 1) > self.total:
            raise ValueError(name)
        self.waiting.append([name, n_prompt, n_prompt + n_answer, 0, []])

    def release(self, request):
        self.free += request[4]
        request[3], request[4] = 0, []

    def compute(self, request, n):
        while len(request[4]) < self.need(request[3] + n):
            request[4].append(self.free.pop())
        request[3] += n

    def step(self):
        budget, plan, preempted = self.budget, [], []
        at = 0
        while at < len(self.running) and budget:
            request = self.running[at]
            n = min(request[1] - request[3], budget)
            while self.need(request[3] + n) - len(request[4]) > len(self.free):
                victim = self.running.pop()
                self.release(victim)
                self.waiting = [victim, *self.waiting]
                preempted.append(victim[0])
                if victim is request:
                    break
            else:
                self.compute(request, n)
                plan.append((request[0], n))
                budget -= n
            at += 1
        if not preempted:
            while self.waiting and budget and self.need(self.waiting[0][1]) <= len(self.free):
                request = self.waiting.pop(0)
                n = min(request[1], budget)
                self.compute(request, n)
                plan.append((request[0], n))
                budget -= n
                self.running.append(request)
        for request in self.running[:]:
            if request[3] == request[1]:
                request[1] += 1
                if request[1] == request[2]:
                    self.release(request)
                    self.running.remove(request)
                    self.finished.append(request[0])
        return plan, preempted
