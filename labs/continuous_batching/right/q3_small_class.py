from collections import deque


class Request:
    def __init__(self, name, n_prompt, n_answer):
        self.name, self.pending, self.left = name, n_prompt, n_answer


class Scheduler:
    def __init__(self, budget, max_running):
        self.budget, self.max_running = budget, max_running
        self.queue, self.batch, self.finished = deque(), [], []

    def add(self, name, n_prompt, n_answer):
        self.queue.append(Request(name, n_prompt, n_answer))

    def step(self):
        budget, plan = self.budget, []
        at = 0
        while budget > 0:
            if at == len(self.batch):
                if not self.queue or len(self.batch) == self.max_running:
                    break
                self.batch.append(self.queue.popleft())
            request = self.batch[at]
            n = min(request.pending, budget)
            request.pending -= n
            budget -= n
            plan.append((request.name, n))
            at += 1
        stay = []
        for request in self.batch:
            if request.pending == 0:
                request.left -= 1
                request.pending = 1
                if request.left == 0:
                    self.finished.append(request.name)
                    continue
            stay.append(request)
        self.batch = stay
        return plan
