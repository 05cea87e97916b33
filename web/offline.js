/* The service worker: keeps what was loaded, so that the page also works without a network.
 *
 * Files come from the network where there is one, so a new version of the page is used at once.
 */

const CACHE = "timbre-transfer";

self.addEventListener("install", (event) => event.waitUntil(storePage()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const {request} = event;
  if (request.method === "GET" && new URL(request.url).origin === self.location.origin) {
    event.respondWith(answer(event));
  }
});

async function storePage() {
  const {files} = await (await fetch("models.json")).json();
  const cache = await caches.open(CACHE);
  await cache.addAll(files);
  await self.skipWaiting();
}

async function answer(event) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(event.request);
  let response;
  try {
    response = await fetch(event.request);
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
  if (response.ok && !(kept && isSame(kept, response))) event.waitUntil(cache.put(event.request, response.clone()));
  return response;
}

function isSame(a, b) {
  const date = a.headers.get("Last-Modified");
  const tag = a.headers.get("ETag");
  return Boolean(date || tag) && date === b.headers.get("Last-Modified") && tag === b.headers.get("ETag");
}
