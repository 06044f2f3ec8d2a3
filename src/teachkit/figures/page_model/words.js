// How the figure of the model in the page says things: tokens that can be seen, numbers with their units.
(function () {
  'use strict';

  const SPACE = '\u00a0';
  const DECODING = { true: 'with the cache', false: 'recomputing' };
  const visible = (token) => token.replace(/ /g, '␣').replace(/\t/g, '⇥').replace(/\r/g, '␍').replace(/\n/g, '⏎')
    .replace(/[\u0000-\u001f\u007f-\u009f]/g, '\ufffd') || '∅';
  const percent = (p) => (p === 0 || p >= 0.0005 ? `${(Math.floor(p * 1000 + 0.5) / 10).toFixed(1)}${SPACE}%` : `<${SPACE}0.1${SPACE}%`);
  const count = (n) => n.toLocaleString('en-US');
  const tokens = (n) => (n === 1 ? '1 token' : `${count(n)} tokens`);
  const short = (n) => n.toLocaleString('en-US', { maximumSignificantDigits: 3 });
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)}${SPACE}MB`;
  const bytes = (n) => (n < 1e9 ? `${short(n / 1e6)}${SPACE}MB` : `${short(n / 1e9)}${SPACE}GB`);
  const orNone = (n) => (n ? bytes(n) : 'none');
  const many = (n) => (n < 1e9 ? `${short(n / 1e6)}${SPACE}million` : `${short(n / 1e9)}${SPACE}billion`);

  const time = (seconds) => (seconds < 1 ? `${Math.round(1000 * seconds)}${SPACE}ms` : `${seconds.toFixed(1)}${SPACE}s`);
  // The first step reads the whole text and is timed apart: `first`. The others took `later`, and made a token each.
  const firstToken = ({ made, first }) => (made ? time(first) : '–');
  const perSecond = ({ made, later }) => (later > 0 ? short((made - 1) / later) : '–');

  const words = { visible, percent, count, tokens, short, megabytes, many, bytes, orNone, time, firstToken, perSecond, SPACE, DECODING };
  window.teachkitPageModel = Object.assign(window.teachkitPageModel || {}, { words });
})();
