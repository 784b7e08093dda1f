"use strict";

// What both pages have. Each has functions `connect` and `disconnect` of its own: who logs in asks for nothing meanwhile.

const the = (id) => document.getElementById(id);
const make = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
};
const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };

// What begins with a path or an address stays as it is.
const sentence = (text) => {
  const begin = /^[a-z]+[ ,]/.test(text) ? text.charAt(0).toUpperCase() : text.charAt(0);
  return begin + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
};

const complain = (id, reason) => {
  set(the(id), sentence(reason.message));
  the(id).hidden = false;
};

let loggingIn = null;

async function ask(path, method = "GET", body) {
  const options = { method, headers: {}, cache: "no-store" };
  if (body instanceof Blob) {
    options.headers["Content-Type"] = "application/octet-stream";
    options.body = body;
  } else if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options).catch(() => { throw new Error("the device doesn't answer"); });
  if (response.status === 401 && path !== "login") {
    await logIn();
    return ask(path, method, body);
  }
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(answer.error || `the device answers ${response.status}`);
  return answer;
}

function logIn() {
  loggingIn ??= new Promise((resolve) => {
    const [dialog, error, input] = [the("login"), the("login-error"), the("token")];
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.querySelector("form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        await ask("login", "POST", { token: input.value });
        error.hidden = true;
        dialog.close();
        loggingIn = null;
        connect();
        resolve();
      } catch (reason) {
        complain("login-error", reason);
        input.select();
      }
      input.value = "";
    };
    disconnect();
    dialog.showModal();
  });
  return loggingIn;
}
