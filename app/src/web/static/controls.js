// Controls for every parameter of the schema: what a person changes is sent, what anybody changed is shown.

const THROTTLE = 66;
const TYPING = 500;
const SIZES = ['auto', '256x256', '384x384', '512x512', '512x288', '640x360', '768x768'];
// Groups that are open at first.
const OPEN = ['prompt', 'lora', 'sampling'];
const TITLES = { prompt: 'Prompt', lora: 'LoRAs', sampling: 'Sampling', picture: 'Picture', stream: 'Stream' };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children);
  return made;
}

function title(name) {
  const words = name.replaceAll('_', ' ');
  return words[0].toUpperCase() + words.slice(1);
}

// The LoRA whose weight a parameter is: undefined where it is something else, null where the model has none such.
function loraOf(parameter, schema) {
  const number = /^lora_(\d+)$/.exec(parameter.name);
  return number ? schema.loras[number[1] - 1] || null : undefined;
}

// One parameter: `change(value)` is called with what a person chose.
class Control {
  constructor(parameter, change, lora) {
    this.parameter = parameter;
    this.lora = lora;
    this.change = change;
    this.value = parameter.default;
    this.busyUntil = 0;
    this.pending = null;
    const id = `p-${parameter.name}`;
    this.error = element('p', { class: 'error', id: `${id}-error`, role: 'alert' });
    const unit = parameter.unit ? `${parameter.doc} (${parameter.unit})` : parameter.doc;
    const hint = element('p', { class: 'hint', id: `${id}-hint` }, unit);
    const name = lora ? `LoRA ${lora.name}` : title(parameter.name);
    const reset = element('button', { type: 'button', class: 'reset', 'aria-label': `Reset ${name}` }, 'Reset');
    reset.onclick = () => this.choose(this.parameter.default, true);
    this.fields = element('div', { class: 'fields' });
    this.main = this.field(id);
    this.main.setAttribute('aria-describedby', `${id}-hint ${id}-error`);
    const head = element('div', { class: 'head' }, element('label', { for: id }, name), reset);
    this.element = element('div', { class: 'control', 'data-name': parameter.name }, head, this.fields, this.error, hint);
    if (parameter.has_auto && parameter.kind.type !== 'size') this.addAuto(id);
  }

  field(id) {
    const { kind } = this.parameter;
    const makers = { number: 'numeric', whole: 'numeric', flag: 'flag', choice: 'choice', text: 'text', size: 'size' };
    return this[makers[kind.type] || 'text'](id, kind);
  }

  numeric(id, kind) {
    const step = kind.type === 'whole' ? 1 : kind.step;
    // A slider over all 64-bit seeds would be of no use.
    const number = element('input', { type: 'number', id, min: kind.min, max: kind.max, step: 'any' });
    number.onchange = () => number.value !== '' && this.choose(Number(number.value), true);
    this.write = (value) => { number.value = value; };
    if (kind.max - kind.min <= 1e6) {
      const range = element('input', { type: 'range', min: kind.min, max: kind.max, step, 'aria-label': `${title(this.parameter.name)}, slider` });
      range.oninput = () => {
        number.value = range.value;
        this.choose(Number(range.value), false);
      };
      range.onchange = () => this.choose(Number(range.value), true);
      this.write = (value) => { number.value = value; range.value = value; };
      this.fields.append(range);
    }
    this.fields.append(number);
    return number;
  }

  flag(id) {
    const box = element('input', { type: 'checkbox', id });
    box.onchange = () => this.choose(box.checked, true);
    this.write = (value) => { box.checked = value === true; };
    this.fields.append(box);
    return box;
  }

  choice(id, kind) {
    const select = element('select', { id });
    select.append(...kind.names.map((name) => element('option', { value: name }, name)));
    select.onchange = () => this.choose(select.value, true);
    this.write = (value) => { select.value = value; };
    this.fields.append(select);
    return select;
  }

  size(id) {
    const list = element('datalist', { id: `${id}-list` }, ...SIZES.map((s) => element('option', { value: s })));
    const input = element('input', { id, list: `${id}-list`, size: 10, autocomplete: 'off' });
    input.onchange = () => this.choose(input.value.trim() || 'auto', true);
    this.write = (value) => { input.value = value; };
    this.fields.append(input, list);
    return input;
  }

  text(id) {
    const area = element('textarea', { id, rows: 3, spellcheck: 'false' });
    let timer;
    area.oninput = () => {
      this.busyUntil = performance.now() + 2 * TYPING;
      clearTimeout(timer);
      timer = setTimeout(() => this.choose(area.value, true), TYPING);
    };
    area.onkeydown = (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
        clearTimeout(timer);
        this.choose(area.value, true);
      }
    };
    this.write = (value) => { area.value = value; };
    this.fields.append(area);
    return area;
  }

  addAuto(id) {
    const box = element('input', { type: 'checkbox', id: `${id}-auto` });
    this.auto = box;
    box.onchange = () => {
      const { kind } = this.parameter;
      const usual = this.lora ? this.lora.weight : kind.names ? kind.names[0] : Math.max(kind.min, Math.min(kind.max, kind.type === 'whole' ? 1 : 0.5));
      this.choose(box.checked ? 'auto' : usual, true);
    };
    this.fields.append(element('label', { for: `${id}-auto` }, box, ' auto'));
  }

  // Sliders are heard at most so often; the last place always is.
  choose(value, isLast) {
    this.value = value;
    this.busyUntil = performance.now() + (isLast ? 0 : TYPING);
    this.error.textContent = '';
    clearTimeout(this.pending);
    const wait = isLast ? 0 : Math.max(0, (this.sentAt || 0) + THROTTLE - performance.now());
    this.pending = setTimeout(() => {
      this.sentAt = performance.now();
      this.change(this.value);
    }, wait);
  }

  // What the server has; not while a hand is on it.
  show(value) {
    const isText = this.parameter.kind.type === 'text';
    const isTyping = isText && document.activeElement === this.main && performance.now() < this.busyUntil;
    if (isTyping || (!isText && performance.now() < this.busyUntil)) return;
    this.value = value;
    if (this.auto) this.auto.checked = value === 'auto';
    if (value !== 'auto' || this.parameter.kind.type === 'size') this.write(value);
  }

  refuse(message, value) {
    this.error.textContent = message;
    this.busyUntil = 0;
    this.show(value);
  }
}

// All controls; `send(params)` gives the id that a refusal names, or null when nothing could be sent.
export class Controls {
  constructor(root, schema, send) {
    this.send = send;
    this.values = {};
    this.sent = new Map();
    this.controls = new Map();
    this.lastRefused = null;
    const groups = new Map();
    for (const parameter of schema.parameters) {
      const lora = loraOf(parameter, schema);
      if (lora === null) continue;
      const control = new Control(parameter, (value) => this.set({ [parameter.name]: value }), lora);
      this.controls.set(parameter.name, control);
      if (!groups.has(parameter.group)) {
        const summary = element('summary', {}, TITLES[parameter.group] || title(parameter.group));
        groups.set(parameter.group, element('details', { class: 'group', open: OPEN.includes(parameter.group) }, summary));
      }
      groups.get(parameter.group).append(control.element);
    }
    root.replaceChildren(...groups.values());
  }

  set(params) {
    const id = this.send(params);
    if (id !== null) this.sent.set(id, Object.keys(params));
  }

  show(values) {
    this.values = values;
    for (const [name, value] of Object.entries(values)) {
      const control = this.controls.get(name);
      if (control) control.show(value);
    }
  }

  done(id) {
    this.sent.delete(id);
  }

  refused(id, error) {
    const names = error.parameter ? [error.parameter] : this.sent.get(id) || [];
    this.sent.delete(id);
    this.lastRefused = error.message;
    for (const name of names) {
      const control = this.controls.get(name);
      if (control) control.refuse(error.message, this.values[name]);
    }
  }

  lock(isLocked) {
    for (const control of this.controls.values()) {
      for (const field of control.element.querySelectorAll('input, select, textarea, button')) field.disabled = isLocked;
    }
  }
}
