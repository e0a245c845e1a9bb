"use strict";

// The page works without this script; with it, it need not be loaded anew.
const shelf = document.getElementById("shelf");
const board = document.getElementById("board");
const sum = shelf.querySelector(".sum");
const go = shelf.querySelector(".go");
const longest = 12;

const money = (cents) => "$" + (cents / 100).toFixed(2);

function total() {
  let count = 0, cents = 0;
  for (const card of shelf.querySelectorAll(".card")) {
    const n = Number(card.querySelector("input").value) || 0;
    card.classList.toggle("chosen", n > 0);
    count += n;
    cents += n * Number(card.querySelector("[data-price]").dataset.price);
  }
  sum.textContent = count ? `${count} ${count === 1 ? "thing" : "things"} · ${money(cents)}` : "";
  return count;
}

shelf.addEventListener("click", (event) => {
  const step = Number(event.target.dataset.step);
  if (!step) return;
  const input = event.target.parentElement.querySelector("input");
  input.value = Math.min(99, Math.max(0, Number(input.value) + step));
  total();
});
shelf.addEventListener("input", total);

function say(text, problem) {
  document.querySelectorAll("body > .notice").forEach((n) => n.remove());
  const notice = document.createElement("p");
  notice.className = problem ? "notice problem" : "notice";
  notice.setAttribute("role", problem ? "alert" : "status");
  notice.textContent = text;
  document.querySelector("main").before(notice);
  if (problem) notice.scrollIntoView({ block: "center" });
}

let once = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());

shelf.addEventListener("submit", async (event) => {
  event.preventDefault();
  go.disabled = true;
  try {
    const form = new URLSearchParams(new FormData(shelf));
    form.set("once", once); // the same order, however often this is tried
    const answer = await fetch("/orders", { method: "POST", body: form, headers: { Accept: "application/json" } });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    for (const input of shelf.querySelectorAll("input[type=number]")) input.value = 0;
    once = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
    total();
    say("Thank you. Your order is on the board.");
  } catch (problem) {
    say(problem.message || "The order could not be placed. Try again in a moment.", true);
  }
  go.disabled = false;
});

function ages() {
  for (const time of board.querySelectorAll("time")) {
    const seconds = Math.round((Date.now() - new Date(time.dateTime)) / 1000);
    time.textContent = !(seconds < 1e9) ? "long ago" : seconds < 5 ? "just now" : seconds < 60 ? `${seconds} s ago`
      : seconds < 3600 ? `${Math.floor(seconds / 60)} min ago` : seconds < 86400 ? `${Math.floor(seconds / 3600)} h ago`
      : `${Math.floor(seconds / 86400)} d ago`;
  }
}

const live = document.querySelector(".live");
const stream = new EventSource("/events");
stream.onopen = () => live.classList.add("on");
stream.onerror = () => live.classList.remove("on");
stream.addEventListener("order", (event) => {
  const holder = document.createElement("template");
  holder.innerHTML = event.data; // made and escaped by the server
  const order = holder.content.firstElementChild;
  const before = document.getElementById(order.id);
  if (before) {
    before.replaceWith(order);
  } else {
    order.classList.add("fresh");
    board.prepend(order);
    while (board.children.length > longest) board.lastElementChild.remove();
    document.querySelector(".empty")?.remove();
  }
  ages();
});

setInterval(ages, 5000);
ages();
total();
