/** A run's rounds as columns: new ones are put behind those that are known. */

/** Return the number of the last round; 0: none. */
export function lastRound(series) {
  return series.round.at(-1) ?? 0;
}

/** Return a series with the rounds of another behind its own, those alone that it has not. */
export function appended(series, news) {
  const known = lastRound(series);
  const fresh = news.round.findIndex((round) => round > known);
  if (fresh < 0) return series;
  const joined = { ...series, total: news.total, shared: news.shared };
  for (const [name, column] of Object.entries(series)) {
    if (Array.isArray(column)) joined[name] = [...column, ...news[name].slice(fresh)];
  }
  joined.values = Object.fromEntries(
    Object.entries(news.values).map(([name, columns]) => [name, joinedColumns(series.values[name], columns, fresh, series.round.length)]),
  );
  return joined;
}

function joinedColumns(columns, news, fresh, length) {
  return Object.fromEntries(
    Object.entries(news).map(([name, column]) => [name, [...(columns?.[name] ?? Array(length).fill(null)), ...column.slice(fresh)]]),
  );
}
