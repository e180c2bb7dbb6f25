//! `privatelink agent`: parse, log, open the store, start forwarding, serve the API, wait for a signal, stop.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, builder::PossibleValuesParser};
use ipnet::Ipv4Net;
use privatelink_ebpf::abi::entries;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::{CliError, DEFAULT_STATE_DIR, systemd, value};
use crate::{
    agent::{self, Agent, AgentError, host_port},
    api::{
        self, Api, SocketFile,
        query::{self, Credentials, QueryApi},
    },
    confine::{
        self, ConfineError,
        calls::{self, Caller},
        capabilities,
        files::{self, Grant, Right, Signals},
    },
    dataplane::{load, pin},
    dns::{self, upstream::Upstreams},
    logging::{self, LogFormat},
    memory,
    metrics::{self, Metrics, MetricsError},
    model::{AccountId, InvalidValue, Owner, Region, ServiceDomain},
    notify::{self, Allowed, How, Targets, Trust},
    store::{DirectoryLock, Store},
};

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where the state is kept. One agent for each directory.
    #[arg(long, value_name = "DIR", env = "PRIVATELINK_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// Take everything of this state directory's agent out of the kernel (programs, tables, host port) and end; its
    /// flows end, its resources stay. The agent must not run.
    #[arg(long)]
    remove: bool,
    /// What is logged to standard error: error, warn, info, debug, trace, or a filter such as
    /// info,privatelink_user::agent=debug.
    #[arg(long, value_name = "FILTER", env = "PRIVATELINK_LOG", default_value = "info")]
    log: String,
    /// How it is logged.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Serve metrics for Prometheus at http://ADDR/metrics, such as 127.0.0.1:9420. Whoever reaches it may read them.
    #[arg(long, value_name = "IP:PORT", value_parser = value::socket_address)]
    metrics: Option<SocketAddr>,
    /// Log each connection of a TLS listener to this file, with the fields of AWS's access logs in their order. It may
    /// be rotated at any time.
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    notify: NotifyArgs,
    #[command(flatten)]
    datapath: DatapathArgs,
    #[command(flatten)]
    names: NamesArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Connection notifications")]
struct NotifyArgs {
    /// Whom connection notifications may tell: https://HOST/PATH (http:// too), file:/PATH or exec:/PATH; requests name
    /// nothing else. With an SNS topic's ARN and an equals sign before it, requests name the topic. May be repeated.
    #[arg(long = "notify", value_name = "[TOPIC=]TARGET", value_parser = value::parse::<Allowed>)]
    notify: Vec<Allowed>,
    /// Whose certificates are believed of https:// targets: a file of PEM.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    notify_ca: PathBuf,
    /// Where the programs of exec: targets may write: a directory. May be repeated. They read what the agent's user may
    /// read.
    #[arg(long, value_name = "DIR")]
    notify_writes: Vec<PathBuf>,
}

impl NotifyArgs {
    /// The files that telling takes, and whom programs may send signals.
    fn grants(&self) -> (Vec<Grant>, Signals) {
        let Self { notify, notify_ca, notify_writes } = self;
        let mut grants = vec![Grant::new(notify_ca, Right::Read)];
        let mut signals = Signals::Own;
        for how in notify.iter().map(Allowed::how) {
            match how {
                How::Webhook => {
                    // What says how names are resolved is replaced whenever that changes.
                    let resolver = ["/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"];
                    grants.extend(resolver.map(|directory| Grant::new(directory, Right::Read)));
                }
                How::File(file) => grants.push(Grant::beside(file, Right::Log)),
                How::Program(_) => {
                    grants.push(Grant::new("/", Right::Run));
                    signals = Signals::All;
                }
            }
        }
        if signals == Signals::All {
            grants.extend(notify_writes.iter().map(|directory| Grant::new(directory, Right::Keep)));
        }
        (grants, signals)
    }

    fn targets(self) -> Result<Targets, CliError> {
        let Self { notify, notify_ca, notify_writes: _ } = self;
        Targets::new(notify, &Trust(notify_ca)).map_err(|error| CliError::Input {
            message: error.to_string(),
            hint: "give --notify a URL of a host by its name, and --notify-ca a file of PEM certificates".to_owned(),
        })
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Names")]
struct NamesArgs {
    /// The domain under which the names of endpoints (NAME.REGION.vpce.DOMAIN) and load balancers
    /// (NAME.elb.REGION.DOMAIN) are.
    #[arg(long, value_name = "DOMAIN", default_value_t, value_parser = value::parse::<ServiceDomain>)]
    service_domain: ServiceDomain,
    /// Also serve names at this address of the host, for hosts outside every VPC: UDP and TCP, port 53 if none is
    /// given. May be repeated. Inside a VPC the names are served at its base address + 2 and at 169.254.169.253.
    #[arg(long = "dns", value_name = "ADDR[:PORT]", value_parser = value::dns_server)]
    dns: Vec<SocketAddr>,
    /// Who is asked for all other names. May be repeated: the next one is asked if one does not answer. Without it such
    /// questions are refused.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = value::dns_server)]
    dns_upstream: Vec<SocketAddr>,
    /// Who is asked for the TXT records that verify private DNS names; the upstreams unless given. May be repeated.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = value::dns_server)]
    dns_verification_resolver: Vec<SocketAddr>,
    /// How often they are asked for again, for names that were asked for before: one whose record is gone is not
    /// verified any more, so that no further endpoint may answer for it.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(1..=604_800))]
    dns_verification_interval: u32,
    /// Do not serve names inside the VPCs: base address + 2 and 169.254.169.253 are left to whoever has them.
    #[arg(long)]
    no_vpc_dns: bool,
}

impl NamesArgs {
    /// Under which domain, how names are served, who is asked to verify one, and how often.
    fn options(self) -> (ServiceDomain, dns::Options, Vec<SocketAddr>, Duration) {
        let Self {
            service_domain,
            dns,
            dns_upstream,
            dns_verification_resolver,
            dns_verification_interval,
            no_vpc_dns,
        } = self;
        let asked = if dns_verification_resolver.is_empty() { dns_upstream.clone() } else { dns_verification_resolver };
        let every = Duration::from_secs(dns_verification_interval.into());
        let options = dns::Options { listen: dns, upstreams: dns_upstream, outside_only: no_vpc_dns };
        (service_domain, options, asked, every)
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "AWS API")]
struct QueryArgs {
    /// Serve the AWS Query API (EC2, Elastic Load Balancing, sts:GetCallerIdentity) on this address, for `aws
    /// --endpoint-url http://ADDR:PORT` and the SDKs. Requests must be signed with an access key of --credentials.
    #[arg(long, value_name = "ADDR:PORT", value_parser = value::socket_address)]
    api: Option<SocketAddr>,
    /// Access keys: a TOML file, its owner's only, with [[credential]] tables of access-key-id, secret-access-key,
    /// account and, for a principal of its own, user or role.
    #[arg(long, value_name = "FILE", requires = "api")]
    credentials: Option<PathBuf>,
    /// Believe requests from loopback whatever their signature: an access key of 12 digits is the account.
    #[arg(long, requires = "api")]
    trust_loopback: bool,
    /// For test rigs: POST /_/reset from loopback removes every resource of every account.
    #[arg(long, requires = "api")]
    allow_reset: bool,
}

impl QueryArgs {
    /// The access keys.
    fn credentials(&self) -> Result<Credentials, CliError> {
        let Some(file) = &self.credentials else { return Ok(Credentials::default()) };
        Credentials::load(file).map_err(|error| CliError::Input {
            message: error.to_string(),
            hint: "see `privatelink agent --help` for what the file holds".to_owned(),
        })
    }

    /// The listener and what it serves; none without --api.
    async fn listen(
        self,
        api: &Arc<Api>,
        credentials: Credentials,
    ) -> Result<Option<(TcpListener, Arc<QueryApi>)>, CliError> {
        let Self { api: address, credentials: _, trust_loopback, allow_reset } = self;
        let Some(address) = address else { return Ok(None) };
        if allow_reset && !address.ip().is_loopback() {
            return Err(CliError::Input {
                message: format!("--allow-reset needs a loopback address, and '{address}' is none"),
                hint: "use --api 127.0.0.1:PORT".to_owned(),
            });
        }
        let listener = TcpListener::bind(address).await.map_err(|error| CliError::Agent {
            message: format!("listening on {address} for the AWS API: {error}"),
            hint: "give --api an address of this host and a free port".to_owned(),
        })?;
        let query =
            QueryApi { api: api.clone(), credentials, trust_loopback, allow_reset, replays: Default::default() };
        Ok(Some((listener, Arc::new(query))))
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Datapath")]
struct DatapathArgs {
    /// Where the BPF file system is, or is to be mounted.
    #[arg(long, value_name = "DIR", env = "PRIVATELINK_BPFFS", default_value = "/sys/fs/bpf")]
    bpffs: PathBuf,
    /// The internal addresses of health checks and of VPCs that ask for names, inside 100.64.0.0/10; tenants never see
    /// them.
    #[arg(long, value_name = "CIDR", default_value_t = host_port::DEFAULT_PREFIX, value_parser = value::prefix)]
    host_prefix: Ipv4Net,
    /// Targets that there is room for, with 8 kB for the ports of each. Tables that are pinned keep their size.
    #[arg(long, value_name = "N", default_value_t = entries::TARGETS, value_parser = value::number)]
    max_targets: u32,
    /// Buckets of the flow table: a power of two. A bucket has room for two flows and takes 256 bytes.
    #[arg(long, value_name = "N", default_value_t = entries::FLOWS, value_parser = value::power_of_two)]
    flow_buckets: u32,
    /// Keep flows in the kernel's hash map only: slower, the reference to compare with.
    #[arg(long)]
    reference_table: bool,
    /// Attach by clsact even where the kernel has tcx.
    #[arg(long)]
    clsact: bool,
    /// Report flows that open and close.
    #[arg(long)]
    flow_events: bool,
    /// Bring the kernel programs' log lines up to this level into the agent's log, which must let them through (`--log
    /// debug`). Without it they have none, and cost nothing.
    #[arg(long, value_name = "LEVEL", value_parser = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]))]
    kernel_log: Option<String>,
}

impl DatapathArgs {
    fn options(self, state_dir: PathBuf, dns: dns::Options, access_log: Option<PathBuf>) -> agent::Options {
        let Self { bpffs, host_prefix, max_targets, flow_buckets, reference_table, clsact, flow_events, kernel_log } =
            self;
        let log_level = kernel_log.and_then(|level| level.parse::<log::Level>().ok()).map(|level| match level {
            log::Level::Error => aya_log::Level::Error,
            log::Level::Warn => aya_log::Level::Warn,
            log::Level::Info => aya_log::Level::Info,
            log::Level::Debug => aya_log::Level::Debug,
            log::Level::Trace => aya_log::Level::Trace,
        });
        let dataplane = load::Options {
            bpffs,
            state_dir,
            max_targets,
            buckets: flow_buckets,
            reference_table,
            clsact,
            flow_events,
            log_level,
        };
        agent::Options { dataplane, host_prefix, dns, access_log }
    }
}

impl AgentArgs {
    pub fn run(self, socket: PathBuf, account: Option<AccountId>, region: Option<Region>) -> Result<(), CliError> {
        logging::init(&self.log, self.log_format)
            .map_err(|error| CliError::Input { message: error.to_string(), hint: error.hint().to_owned() })?;
        let credentials = self.query.credentials()?;
        let store = if self.remove { None } else { Some(self.confine(&socket)?) };
        memory::share_arenas();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
        runtime.block_on(async {
            // Spawned, because the agent's start blocks in place, which only a worker thread may.
            let task = match store {
                Some(store) => tokio::spawn(self.serve(store, socket, default_owner(account, region), credentials)),
                None => tokio::spawn(self.take_out()),
            };
            task.await.unwrap_or_else(|error| {
                Err(CliError::Agent { message: format!("the agent was aborted: {error}"), hint: String::new() })
            })
        })
    }

    /// The files that the arguments name and the agent touches while it forwards, and whom its programs may send
    /// signals.
    pub fn grants(&self, socket: &Path) -> (Vec<Grant>, Signals) {
        let (mut grants, signals) = self.notify.grants();
        grants.extend([
            Grant::new(&self.state_dir, Right::Keep),
            Grant::new(&self.datapath.bpffs, Right::Keep),
            Grant::beside(socket, Right::Sockets),
            Grant::new(files::IPV6_SETTINGS, Right::Write),
        ]);
        grants.extend(self.access_log.iter().map(|file| Grant::beside(file, Right::Log)));
        (grants, signals)
    }

    /// What the arguments name and [`AgentArgs::grants`] does not: what is read before, or run.
    pub fn named(&self) -> impl Iterator<Item = &Path> {
        let programs = self.notify.notify.iter().filter_map(|allowed| match allowed.how() {
            How::Webhook | How::File(_) => None,
            How::Program(program) => Some(program),
        });
        self.query.credentials.as_deref().into_iter().chain(programs)
    }

    /// Where the state is kept.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Whether this takes the agent out of the kernel instead of running it.
    pub fn removes(&self) -> bool {
        self.remove
    }

    /// Does what takes more rights than forwarding does, and gives them up. What the kernel lacks, and a state that
    /// cannot be used, are found before anything is mounted.
    fn confine(&self, socket: &Path) -> Result<Store, CliError> {
        load::check_host().map_err(AgentError::from)?;
        // Another version's tables are refused before the state is opened, so that that version can go on.
        load::check_tables(&self.datapath.bpffs, &self.state_dir).map_err(AgentError::from)?;
        let store = Store::open(&self.state_dir)?;
        pin::ensure_bpffs(&self.datapath.bpffs).map_err(AgentError::from)?;
        SocketFile::make_directory(socket)?;
        // For the relay, which the agent starts.
        confine::raise_file_limit();
        capabilities::keep_few()?;
        let (mut grants, signals) = self.grants(socket);
        grants.extend(files::common());
        grants.extend(files::libraries());
        grants.extend(std::env::current_exe().map(|program| Grant::new(program, Right::Run)));
        files::restrict(&grants, signals)?;
        calls::restrict(Caller::Agent)?;
        Ok(store)
    }

    async fn serve(
        self,
        store: Store,
        socket: PathBuf,
        default_owner: Result<Owner, InvalidValue>,
        credentials: Credentials,
    ) -> Result<(), CliError> {
        let Self { state_dir, remove: _, log: _, log_format: _, metrics, access_log, query, notify, datapath, names } =
            self;
        // The relay need not run where the agent does.
        let access_log = access_log.map(std::path::absolute).transpose().map_err(CliError::Runtime)?;
        let (service_domain, dns, resolvers, recheck) = names.options();
        let default_owner =
            default_owner.map_err(|error| CliError::Input { message: error.to_string(), hint: error.hint.clone() })?;
        let notify = Arc::new(notify.targets()?);
        let store = Arc::new(store.with_service_domain(service_domain));
        // Clients may connect from here on; they are answered when the agent forwards.
        let (listener, _socket_file) = SocketFile::listen(&socket)?;
        let scraped = match metrics {
            Some(address) => Some(metrics::listen(address).await?),
            None => None,
        };
        let shutdown = CancellationToken::new();
        stop_on_signals(shutdown.clone())?;
        let agent = Agent::start(datapath.options(state_dir.clone(), dns, access_log), store.clone()).await?;
        tokio::spawn(notify::run(store.clone(), Arc::clone(&notify), shutdown.clone()));
        let again = Upstreams::new(resolvers.clone());
        tokio::spawn(dns::verification::run(store.clone(), again, recheck, shutdown.clone()));
        let domain_resolvers = Upstreams::new(resolvers);
        let api = Arc::new(Api { store, runtime: agent.runtime(), default_owner, domain_resolvers, notify });
        let query = query.listen(&api, credentials).await?;
        let query = query.map(|(listener, query)| tokio::spawn(query::serve(listener, query, shutdown.clone())));
        if let Some(listener) = scraped {
            let metrics = Arc::new(Metrics { store: api.store.clone(), runtime: api.runtime.clone() });
            let stop = shutdown.clone();
            tokio::spawn(async move {
                if let Err(error) = metrics::serve(listener, metrics, stop).await {
                    tracing::error!(%error, "metrics are no longer served");
                }
            });
        }
        tracing::info!(socket = %socket.display(), state = %state_dir.display(), "ready");
        systemd::ready();
        tokio::spawn(systemd::watchdog(api.runtime.clone(), shutdown.clone()));
        let forwarding = tokio::spawn(agent.run(shutdown.clone()));
        let served = api::serve(listener, api, shutdown.clone()).await;
        shutdown.cancel();
        systemd::stopping();
        if let Some(query) = query
            && let Err(error) = query.await
        {
            tracing::error!(%error, "the AWS API was aborted");
        }
        if let Err(error) = forwarding.await {
            tracing::error!(%error, "the agent was aborted");
        }
        served.map_err(|error| CliError::Agent {
            message: format!("serving the API: {error}"),
            hint: "start the agent again; the kernel goes on forwarding".to_owned(),
        })?;
        tracing::info!("stopped; the kernel goes on forwarding until `privatelink agent --remove`");
        Ok(())
    }

    async fn take_out(self) -> Result<(), CliError> {
        let Self {
            state_dir,
            remove: _,
            log: _,
            log_format: _,
            metrics: _,
            access_log,
            query: _,
            notify: _,
            datapath,
            names,
        } = self;
        // An agent that runs would put everything back.
        let _lock = if state_dir.exists() { Some(DirectoryLock::acquire(&state_dir)?) } else { None };
        let load::Removed { ports } =
            agent::remove(&datapath.options(state_dir.clone(), names.options().1, access_log)).await?;
        tracing::info!(state = %state_dir.display(), ports, "taken out of the kernel");
        Ok(())
    }
}

/// Who calls when a request does not say it.
fn default_owner(account: Option<AccountId>, region: Option<Region>) -> Result<Owner, InvalidValue> {
    Ok(Owner {
        account: account.map_or_else(|| "123456789012".parse(), Ok)?,
        region: region.map_or_else(|| "us-east-1".parse(), Ok)?,
    })
}

impl From<MetricsError> for CliError {
    fn from(error: MetricsError) -> Self {
        Self::Agent {
            message: error.to_string(),
            hint: "give --metrics an address of this host and a port that nobody uses".to_owned(),
        }
    }
}

impl From<ConfineError> for CliError {
    fn from(error: ConfineError) -> Self {
        Self::Agent {
            message: error.to_string(),
            hint: "run the agent as root, or as `privatelink systemd-unit` says".to_owned(),
        }
    }
}

impl From<AgentError> for CliError {
    fn from(error: AgentError) -> Self {
        // The agent's texts name the way out themselves.
        Self::Agent { message: error.to_string(), hint: String::new() }
    }
}

/// Cancels `shutdown` on SIGINT and SIGTERM.
fn stop_on_signals(shutdown: CancellationToken) -> Result<(), CliError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        }
        shutdown.cancel();
    });
    Ok(())
}
