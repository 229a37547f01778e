// The timeline of a loop, live: server-sent events, and polling where they do not come through.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, type Items, type TimelineItem, unreachableSince } from "./api";

const POLL_MS = 4_000; // without events
const CHECK_MS = 20_000; // with events: a proxy may hold them back without closing
const RETRY_EVENTS_MS = 30_000;
const KEPT = 2_000; // items held in the browser, the newest

export type Timeline = { items: TimelineItem[]; live: boolean; error: ApiError | undefined; loaded: boolean };

/** Items of the loop whose views lie at `view`, oldest first; `onNew` is called after later ones have come. */
export function useTimeline(view: string, onNew: () => void): Timeline {
  const [state, setState] = useState<Timeline>({ items: [], live: false, error: undefined, loaded: false });
  const notify = useRef(onNew);
  notify.current = onNew;
  useEffect(() => {
    const known = new Map<number, TimelineItem>();
    let last = 0;
    let stopped = false;
    let source: EventSource | undefined;
    let retry: ReturnType<typeof setTimeout> | undefined;
    let polling: ReturnType<typeof setInterval> | undefined;

    const take = (items: TimelineItem[], first = false) => {
      const fresh = items.filter((item) => !known.has(item.sequence));
      for (const item of fresh) {
        known.set(item.sequence, item);
        last = Math.max(last, item.sequence);
      }
      if (fresh.length === 0 && !first) return;
      const ordered = [...known.values()].sort((a, b) => a.sequence - b.sequence);
      for (const dropped of ordered.splice(0, Math.max(0, ordered.length - KEPT))) known.delete(dropped.sequence);
      setState((was) => ({ ...was, items: ordered, loaded: true, error: undefined }));
      if (!first) notify.current();
    };
    const poll = async (first = false) => {
      if (document.hidden && !first) return;
      try {
        const response = await fetch(`${view}/timeline?after=${last}`, { headers: { accept: "application/json" } });
        if (!response.ok) throw new ApiError(`The timeline answers ${response.status}.`, response.status);
        const { items } = (await response.json()) as Items<TimelineItem>;
        if (!stopped) take(items, first);
      } catch (cause) {
        if (stopped) return;
        if (!(cause instanceof ApiError)) unreachableSince.value ??= new Date();
        const error = cause instanceof ApiError ? cause : new ApiError("The control process is not answering.", 0);
        setState((was) => ({ ...was, error, loaded: true }));
      }
    };
    const pollEvery = (ms: number, live: boolean) => {
      clearInterval(polling);
      polling = setInterval(() => void poll(), ms);
      setState((was) => (was.live === live ? was : { ...was, live }));
    };
    const listen = () => {
      source = new EventSource(`${view}/timeline/events?after=${last}`);
      source.onopen = () => pollEvery(CHECK_MS, true);
      source.onmessage = (event: MessageEvent<string>) => {
        try {
          take([JSON.parse(event.data) as TimelineItem]);
        } catch {
          void poll(); // a broken frame: what it said is in the list
        }
      };
      source.onerror = () => {
        pollEvery(POLL_MS, false);
        if (source?.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
        clearTimeout(retry);
        retry = setTimeout(listen, RETRY_EVENTS_MS);
      };
    };
    setState({ items: [], live: false, error: undefined, loaded: false });
    pollEvery(POLL_MS, false);
    void poll(true).then(() => {
      if (!stopped) listen();
    });
    return () => {
      stopped = true;
      source?.close();
      clearTimeout(retry);
      clearInterval(polling);
    };
  }, [view]);
  return state;
}
