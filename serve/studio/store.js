// What the browser keeps between visits, in an IndexedDB of this page: one project for each class table.

const NAME = "studio";
const STORE = "projects";

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class Store {
  // Rejects when the browser forbids it (some private windows do).
  static async open() {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    const store = new Store();
    store.database = await done(request);
    return store;
  }

  read(hash) {
    return done(this.database.transaction(STORE).objectStore(STORE).get(hash));
  }

  // Committed at once, so that a page that is closed in this moment loses nothing.
  write(hash, project) {
    const transaction = this.database.transaction(STORE, "readwrite");
    const request = transaction.objectStore(STORE).put(project, hash);
    transaction.commit();
    return done(request);
  }
}
