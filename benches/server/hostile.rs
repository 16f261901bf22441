//! Connections that open, half read, stall, vanish or send garbage, while one client asks for completions and another
//! for `/health`.

mod behaviour;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand_core::SeedableRng;
use rand_pcg::Pcg64;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::manners::Known;
use crate::report::Report;
use crate::server::Server;
use crate::{Options, Outcome};
use behaviour::Behaviour;

/// How often `/health` is asked.
const POLL: Duration = Duration::from_millis(20);
/// A `/health` that takes longer has not answered.
const UNANSWERED: Duration = Duration::from_secs(10);

pub(crate) async fn run(server: &mut Server, options: &Options, report: &mut Report) -> Outcome<()> {
    let client = Client::new(&server.address)?;
    let known = Known::ask(&client, 24).await?;
    let files_before = server.open_files()?;
    let connections = options.connections.unwrap_or(500);

    let over = Arc::new(AtomicBool::new(false));
    let health = {
        // A thread and a runtime of its own, so that it measures the server and not how busy this program is.
        let (address, over) = (server.address.clone(), over.clone());
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(poll_health(&address, &over))
        })
    };
    let polite = tokio::spawn(ask_on(client, known, over.clone()));
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut hostile = JoinSet::new();
    for number in 0..connections {
        let address = server.address.clone();
        let mut random = Pcg64::seed_from_u64(options.seed << 16 | number as u64);
        hostile.spawn(async move {
            let mut done = BTreeMap::<Behaviour, usize>::new();
            let mut refused = 0;
            for i in 0.. {
                if Instant::now() >= end {
                    break;
                }
                let behaviour = Behaviour::any(&mut random);
                let left = end.saturating_duration_since(Instant::now());
                let job_id = format!("hostile-{number}-{i}");
                let behaves = behaviour.happen(&address, &job_id, &mut random);
                // That the server cuts the connection is its right; that it takes none is counted.
                match tokio::time::timeout(left, behaves).await {
                    Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => refused += 1,
                    _ => *done.entry(behaviour).or_default() += 1,
                }
            }
            (done, refused)
        });
    }

    let mut memory = Vec::new();
    let mut files = 0;
    while Instant::now() < end {
        if server.has_ended()?.is_some() {
            return Ok(());
        }
        memory.push(server.memory()?);
        files = files.max(server.open_files()?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (mut done, mut refused) = (BTreeMap::new(), 0);
    while let Some(one) = hostile.join_next().await {
        let (of_one, refused_one) = one?;
        of_one.into_iter().for_each(|(behaviour, times)| *done.entry(behaviour).or_default() += times);
        refused += refused_one;
    }
    over.store(true, Ordering::Relaxed);

    let done: BTreeMap<String, usize> =
        done.into_iter().map(|(behaviour, times)| (format!("{behaviour:?}"), times)).collect();
    report.number("seconds", options.seconds);
    report.number("hostile_at_a_time", connections);
    report.number("hostile_connections", done.values().sum::<usize>());
    report.number("hostile", serde_json::to_value(done)?);
    report.number("connections_refused", refused);
    match health.join().map_err(|_| "the thread for /health panicked")?? {
        (times, 0) => report.times("health", &times),
        (times, unanswered) => {
            report.times("health", &times);
            report.fault(format!("{unanswered} of {} /health were not answered", times.len() + unanswered));
        }
    }
    match polite.await? {
        Ok(Asked { answers, queue_full }) => {
            report.times("polite_completions", &answers);
            report.number("polite_was_told_to_come_again", queue_full);
            if answers.is_empty() {
                report.fault("the well-behaved client got no answer".to_owned());
            }
        }
        Err(error) => report.fault(error.to_string()),
    }
    report.memory(&memory, options.growth_mb);
    let files_after = files_when_settled(server, files_before).await?;
    report.number("files_before_most_after", vec![files_before, files, files_after]);
    if files_after > files_before {
        report.fault(format!("{files_after} files are open, {files_before} were before"));
    }
    Ok(())
}

/// What the well-behaved client got: each answer's time, and how often the queue was full.
struct Asked {
    answers: Vec<Duration>,
    queue_full: u64,
}

/// Completions back to back; the first that is not what it is alone ends it.
async fn ask_on(client: Client, known: Vec<Known>, over: Arc<AtomicBool>) -> Outcome<Asked> {
    let mut asked = Asked { answers: Vec::new(), queue_full: 0 };
    while !over.load(Ordering::Relaxed) {
        let i = asked.answers.len();
        let took =
            known[i % known.len()].again(&client, &format!("polite-{i}"), &mut asked.queue_full).await?;
        asked.answers.push(took);
    }
    Ok(asked)
}

/// How long each `/health` took on a connection of its own, and how many had no good answer.
async fn poll_health(address: &str, over: &AtomicBool) -> Outcome<(Vec<Duration>, usize)> {
    let client = Client::new(address)?;
    let (mut times, mut unanswered) = (Vec::new(), 0);
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        match tokio::time::timeout(UNANSWERED, client.get("/health")).await {
            Ok(Ok((200, _))) => times.push(start.elapsed()),
            _ => unanswered += 1,
        }
        tokio::time::sleep(POLL.saturating_sub(start.elapsed())).await;
    }
    Ok((times, unanswered))
}

/// The files that are open when the connections are gone, which may take the server a moment to see.
async fn files_when_settled(server: &Server, before: usize) -> Outcome<usize> {
    for _ in 0..50 {
        if server.open_files()? <= before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.open_files()
}
