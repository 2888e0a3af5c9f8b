// Words numbers, durations and times.

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return Number(value.toPrecision(3)).toExponential();
  return String(Number(value.toPrecision(5)));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  const whole = Math.round(Math.max(0, seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  const minutes = String(Math.floor((whole % 3600) / 60)).padStart(2, "0");
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h ${minutes} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function clock(seconds, dayOnly = false) {
  const date = new Date(seconds * 1000);
  if (dayOnly) return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

export function eta(found) {
  return found && `${duration(found.median_s)} (${duration(found.low_s)} to ${duration(found.high_s)})`;
}
