// The page's end of the worker, and how the weights come to the page.
//
// The worker is made from the text of its scripts, and the weights are scripts that the page adds to itself: both
// work from a folder on a disk, where a page may not read the files beside it.
(function () {
  'use strict';

  // ask    sends a message, and waits for its answer; `step` hears of what comes before that
  // stop   whatever runs ends
  // end    the worker itself ends; so it does by an error that nobody caught, and whoever waits is told
  function startWorker(source) {
    const address = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
    const worker = new Worker(address);
    const waiting = new Map();
    let last = 0;
    let alive = true;
    worker.onmessage = ({ data: answer }) => {
      if (!alive) return;
      const { resolve, reject, step } = waiting.get(answer.id);
      if (answer.type === 'step') { step(answer); return; }
      waiting.delete(answer.id);
      if (answer.type === 'failed') reject(new Error(answer.reason));
      else resolve(answer);
    };
    const free = () => URL.revokeObjectURL(address);
    worker.addEventListener('message', free, { once: true }); // it has read its scripts
    const gone = () => new Error('The worker that runs the model has ended.');
    function end() {
      alive = false;
      worker.terminate();
      free();
      waiting.forEach(({ reject }) => reject(gone()));
      waiting.clear();
    }
    worker.onerror = (event) => {
      event.preventDefault();
      end();
    };
    return {
      end,
      alive: () => alive,
      ask: (message, step) => new Promise((resolve, reject) => {
        if (!alive) { reject(gone()); return; }
        last += 1;
        waiting.set(last, { resolve, reject, step });
        worker.postMessage({ ...message, id: last });
      }),
      stop: () => worker.postMessage({ type: 'stop' }),
    };
  }

  // What one of the scripts of page_model_weights.py brings; its name says where it left it.
  async function bring(folder, name, stamp) {
    const script = document.createElement('script');
    script.src = `${folder}/${name}.js?${stamp}`;
    await new Promise((resolve, reject) => {
      script.onload = resolve;
      script.onerror = () => reject(new Error(`The file ${name}.js could not be read.`));
      document.head.append(script);
    }).finally(() => script.remove());
    const box = window.teachkitWeights || {};
    const content = box[name];
    delete box[name]; // the worker has its own copy soon
    if (content === undefined) throw new Error(`The file ${name}.js arrived incomplete.`);
    return content;
  }

  // A worker that has the vocabulary.
  async function startModel({ folder, vocabulary, worker: source }) {
    const message = { type: 'vocabulary', vocabulary: await bring(folder, 'vocabulary', vocabulary.stamp) };
    const worker = startWorker(source);
    try {
      await worker.ask(message);
    } catch (problem) {
      worker.end();
      throw problem;
    }
    return worker;
  }

  async function bringWeights(folder, { name, stamp }, moved) {
    const header = await bring(folder, name, stamp);
    let arrived = 0;
    const parts = await Promise.all(Array.from({ length: header.parts }, async (_, i) => {
      const part = await bring(folder, `${name}.${i}`, stamp);
      arrived += 1;
      moved(arrived / header.parts);
      return part;
    }));
    return { type: 'load', scheme: name, header, parts };
  }

  window.teachkitPageModel = Object.assign(window.teachkitPageModel || {}, { startModel, bringWeights });
})();
