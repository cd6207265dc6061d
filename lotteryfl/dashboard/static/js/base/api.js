/** What the page's process answers, by GET. */

/** The server's own line about what is wrong, with the status it came with; 0: it was not reached. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return the JSON of a path under /api. */
export async function get(path, parameters = {}) {
  let answer;
  try {
    answer = await fetch(`/api/${path}${query(parameters)}`, { headers: { Accept: "application/json" } });
  } catch {
    throw new ApiError(0, "The page's process cannot be reached. If it has ended with its run: lotteryfl dashboard DIR shows the run again.");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, content.error ?? `The server answered ${answer.status}.`);
  return content;
}

/** Return parameters as a query; lists repeat their name, null and '' are left out. */
export function query(parameters) {
  const pairs = Object.entries(parameters).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const text = new URLSearchParams(pairs.filter(([, value]) => value !== null && value !== "")).toString();
  return text && `?${text}`;
}
