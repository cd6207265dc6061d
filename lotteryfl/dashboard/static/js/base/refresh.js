/** Fetching again what is looked at: not too often, not twice at once, and not while it is out of sight. */

export class Refresher {
  /**
   * @param section what must be in sight
   * @param pause milliseconds between two fetches, at least
   * @param fetchAndShow does it; what it throws is shown in the section
   */
  constructor(section, pause, fetchAndShow) {
    this.section = section;
    this.pause = pause;
    this.fetchAndShow = fetchAndShow;
    this.wanted = false;
    this.seen = false;
    this.busy = false;
    this.last = -Infinity;
    this.timer = null;
    new IntersectionObserver(
      (entries) => {
        this.seen = entries.at(-1).isIntersecting;
        this.#go();
      },
      { rootMargin: "300px" },
    ).observe(section);
  }

  /** There are news: show them when they are looked at and the pause is over. */
  ask() {
    this.wanted = true;
    this.#go();
  }

  /** The reader wants something else: fetch at once. */
  now() {
    this.last = -Infinity;
    this.ask();
  }

  async #go() {
    if (!this.wanted || !this.seen || this.busy) return;
    const left = this.last + this.pause - performance.now();
    clearTimeout(this.timer);
    if (left > 0) {
      this.timer = setTimeout(() => this.#go(), left);
      return;
    }
    this.wanted = false;
    this.busy = true;
    this.last = performance.now();
    try {
      await this.fetchAndShow();
      this.section.querySelector(".trouble")?.remove();
    } catch (error) {
      this.#tell(error.message);
    } finally {
      this.busy = false;
    }
    this.#go();
  }

  #tell(message) {
    let line = this.section.querySelector(".trouble");
    if (!line) {
      line = document.createElement("p");
      line.className = "trouble bad";
      this.section.append(line);
    }
    line.textContent = message;
  }
}
