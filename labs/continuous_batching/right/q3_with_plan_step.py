class Scheduler:
    def __init__(self, budget, max_running):
        self.budget, self.max_running = budget, max_running
        self.waiting, self.running, self.finished = [], {}, []

    def add(self, name, n_prompt, n_answer):
        self.waiting.append((name, [n_prompt, n_answer]))

    def step(self):
        places = self.max_running - len(self.running)
        candidates = [*self.running.items(), *self.waiting[:places]]
        plan = plan_step([(name, state[0]) for name, state in candidates], self.budget)
        chosen = dict(plan)
        while self.waiting and self.waiting[0][0] in chosen:
            name, state = self.waiting.pop(0)
            self.running[name] = state
        for name in list(self.running):
            state = self.running[name]
            state[0] -= chosen.get(name, 0)
            if state[0] == 0:
                state[0], state[1] = 1, state[1] - 1
                if not state[1]:
                    del self.running[name]
                    self.finished.append(name)
        return plan
