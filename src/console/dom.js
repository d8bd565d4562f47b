// Finds, changes and creates elements.

export const $ = id => document.getElementById(id);

/** Leaves equal text alone, so that a screen reader does not repeat it. */
export function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}
