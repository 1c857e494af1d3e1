// What the browser keeps between visits, in an IndexedDB of this page: projects by class table and tab, so that two tabs
// don't overwrite each other. A new tab begins with the newest.

const NAME = "studio";
const STORE = "projects";
const KEPT = 6; // projects per class table
const TAB = "studio.tab";

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

// Survives a reload of the tab, and is another one in another tab.
function tabId() {
  if (sessionStorage.getItem(TAB) === null) {
    sessionStorage.setItem(TAB, crypto.getRandomValues(new Uint32Array(2)).join("-"));
  }
  return sessionStorage.getItem(TAB);
}

const ofTable = (hash) => IDBKeyRange.bound([hash], [hash, []]); // arrays sort behind strings

export class Store {
  // Rejects when the browser forbids it (some private windows do).
  static async open() {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    const store = new Store();
    store.database = await done(request);
    store.tab = tabId();
    return store;
  }

  // This tab's project, else the newest, else undefined. Drops those that are too many.
  async read(hash) {
    const projects = this.database.transaction(STORE, "readwrite").objectStore(STORE);
    const [keys, found] = await Promise.all([done(projects.getAllKeys(ofTable(hash))), done(projects.getAll(ofTable(hash)))]);
    const entries = keys.map((key, place) => ({ key, ...found[place] })).sort((a, b) => b.keptAt - a.keptAt);
    for (const { key } of entries.slice(KEPT)) projects.delete(key);
    return (entries.find(({ key }) => key[1] === this.tab) ?? entries[0])?.project;
  }

  // Committed at once, so that a page that is closed in this moment loses nothing. Rejects when the disk is full, which
  // only the end of the transaction tells.
  write(hash, project) {
    const transaction = this.database.transaction(STORE, "readwrite");
    transaction.objectStore(STORE).put({ project, keptAt: Date.now() }, [hash, this.tab]);
    transaction.commit();
    return new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
  }
}
