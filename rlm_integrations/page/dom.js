// The data, and the one way to make elements: whatever a run holds gets into the page as text nodes only.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($('data').textContent);
const { steps, texts } = data;

function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === 'function') node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// A text is a string, or code in pieces: kind, text, kind, text, ...
const plainText = (text) => (typeof text === 'string' ? text : text.filter((_, at) => at % 2).join(''));

function textNodes(text) {
  if (typeof text === 'string') return [text];
  const nodes = [];
  for (let at = 0; at < text.length; at += 2) {
    nodes.push(text[at] ? element('span', { class: `code-${text[at]}` }, text[at + 1]) : text[at + 1]);
  }
  return nodes;
}

const numbers = new Intl.NumberFormat('en');
const count = (number) => numbers.format(number);
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;
const cost = (usd) => (usd === null ? '–' : usd === 0 ? '$0' : `$${usd.toFixed(usd < 0.01 ? 5 : usd < 1 ? 4 : 2)}`);

function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

// What is not over lasts to the end of all that is known.
const began = (step) => step.began;
const ended = (step) => Math.max(step.ended ?? data.seconds, step.cell ? (step.cell[1] ?? data.seconds) : 0);
const STATES = {
  complete: 'complete',
  extracted: 'extracted',
  failed: 'failed',
  raised: 'raised an error',
  open: 'not ended',
};
