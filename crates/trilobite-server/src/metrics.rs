//! The metrics of `/metrics`, in Prometheus's text format.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Upper bounds of the buckets for the time to the first token, in seconds.
const FIRST_TOKEN: [f64; 13] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Upper bounds of the buckets for the time between tokens, in seconds.
const NEXT_TOKEN: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// The server's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    prompt_tokens: Family<Labels, Counter>,
    cached_tokens: Family<Labels, Counter>,
    tokens: Family<Labels, Counter>,
    drafted_tokens: Family<Labels, Counter>,
    accepted_tokens: Family<Labels, Counter>,
    loaded_pages: Family<Labels, Counter>,
    damaged_pages: Family<Labels, Counter>,
    preemptions: Family<Labels, Counter>,
    cancelled: Family<Labels, Counter>,
    queued: Family<Labels, Gauge>,
    running: Family<Labels, Gauge>,
    pages: Family<Labels, Gauge>,
    page_limit: Family<Labels, Gauge>,
    cached: Family<Labels, Gauge>,
    first_token: Histograms,
    next_token: Histograms,
}

/// The metrics of one model.
#[derive(Clone)]
pub(crate) struct ModelMetrics {
    pub(crate) prompt_tokens: Counter,
    pub(crate) cached_tokens: Counter,
    pub(crate) tokens: Counter,
    pub(crate) drafted_tokens: Counter,
    pub(crate) accepted_tokens: Counter,
    pub(crate) loaded_pages: Counter,
    pub(crate) damaged_pages: Counter,
    pub(crate) preemptions: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) queued: Gauge,
    pub(crate) running: Gauge,
    pub(crate) pages: Gauge,
    pub(crate) page_limit: Gauge,
    pub(crate) cached: Gauge,
    pub(crate) first_token: Histogram,
    pub(crate) next_token: Histogram,
}

impl Metrics {
    /// Creates the metrics, all zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("trilobite");
        let mut counter = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let requests = counter("requests", "Requests by path and status");
        let prompt_tokens = counter("prompt_tokens", "Tokens of prompts");
        let cached_tokens =
            counter("cached_prompt_tokens", "Tokens of prompts that were not read again");
        let tokens = counter("generated_tokens", "Tokens of answers");
        let drafted_tokens = counter("drafted_tokens", "Tokens of answers that were drafted");
        let accepted_tokens = counter("accepted_tokens", "Drafted tokens that were right");
        let loaded_pages = counter(
            "loaded_cache_pages",
            "Pages of keys and values read from the prompt cache's folder",
        );
        let damaged_pages =
            counter("damaged_cache_pages", "Damaged files removed from the prompt cache's folder");
        let preemptions =
            counter("preemptions", "Sequences that gave up their cache pages and were read again");
        let cancelled = counter(
            "cancelled",
            "Sequences that ended because the client left or the time was over",
        );
        let mut gauge = |name: &str, help: &str| {
            let family = Family::<Labels, Gauge>::default();
            registry.register(name, help, family.clone());
            family
        };
        let queued = gauge("queued_prompts", "Prompts that wait");
        let running = gauge("running_sequences", "Sequences that take part in the steps");
        let pages = gauge("cache_pages", "Pages of keys and values in use");
        let page_limit = gauge("cache_pages_limit", "Pages of keys and values that may be used");
        let cached = gauge("cached_sequences", "Sequences kept for prompts that begin alike");
        let mut histogram = |name: &str, help: &str, constructor: fn() -> Histogram| {
            let family = Histograms::new_with_constructor(constructor);
            registry.register(name, help, family.clone());
            family
        };
        let first_token = histogram(
            "time_to_first_token_seconds",
            "Time from the request to its first token",
            || Histogram::new(FIRST_TOKEN),
        );
        let next_token = histogram(
            "time_between_tokens_seconds",
            "Time from one token of an answer to the next",
            || Histogram::new(NEXT_TOKEN),
        );
        Self {
            registry,
            requests,
            prompt_tokens,
            cached_tokens,
            tokens,
            drafted_tokens,
            accepted_tokens,
            loaded_pages,
            damaged_pages,
            preemptions,
            cancelled,
            queued,
            running,
            pages,
            page_limit,
            cached,
            first_token,
            next_token,
        }
    }

    /// The metrics of a model.
    pub(crate) fn of_model(&self, name: &str) -> ModelMetrics {
        let labels: Labels = vec![("model", name.to_owned())];
        let counter = |family: &Family<Labels, Counter>| family.get_or_create(&labels).clone();
        let gauge = |family: &Family<Labels, Gauge>| family.get_or_create(&labels).clone();
        ModelMetrics {
            prompt_tokens: counter(&self.prompt_tokens),
            cached_tokens: counter(&self.cached_tokens),
            tokens: counter(&self.tokens),
            drafted_tokens: counter(&self.drafted_tokens),
            accepted_tokens: counter(&self.accepted_tokens),
            loaded_pages: counter(&self.loaded_pages),
            damaged_pages: counter(&self.damaged_pages),
            preemptions: counter(&self.preemptions),
            cancelled: counter(&self.cancelled),
            queued: gauge(&self.queued),
            running: gauge(&self.running),
            pages: gauge(&self.pages),
            page_limit: gauge(&self.page_limit),
            cached: gauge(&self.cached),
            first_token: self.first_token.get_or_create(&labels).clone(),
            next_token: self.next_token.get_or_create(&labels).clone(),
        }
    }

    /// Counts an answered request.
    pub(crate) fn count(&self, path: &str, status: u16) {
        let labels = vec![("path", path.to_owned()), ("status", status.to_string())];
        self.requests.get_or_create(&labels).inc();
    }

    /// The metrics as text, or `None` if they cannot be encoded.
    pub(crate) fn text(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).ok()?;
        Some(text)
    }
}
