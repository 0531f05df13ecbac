// sw.js: keeps page and model, so that they open without the network.

const KEPT = `earkit-${new URL(self.location).searchParams.get("build")}`;
const FILES = [
  ...["./", "style.css", "page.js", "draw.js", "microphone.js", "worker.js", "worklet.js", "ear.js", "resample.js"],
  ...["icon.svg", "app.webmanifest", "model.json", "model.wasm"],
];
const places = new Set(FILES.map((file) => new URL(file, self.registration.scope).href));

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = (names) => Promise.all(names.filter((name) => name !== KEPT).map((name) => caches.delete(name)));
  event.waitUntil(caches.keys().then(old).then(() => self.clients.claim()));
});

/** The computer's answer where there is one, else what is kept. */
async function answer(request) {
  const kept = () => caches.match(request, { ignoreSearch: true });
  try {
    const fresh = await fetch(request);
    return fresh.ok ? fresh : ((await kept()) ?? fresh);
  } catch {
    return (await kept()) ?? Response.error();
  }
}

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && places.has(event.request.url)) event.respondWith(answer(event.request));
});
