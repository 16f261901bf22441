use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use libtest_mimic::Failed;
use runtime::request::{Event, Request};
use runtime::worker::{LoadOptions, Worker};
use worker_orcd::cache;
use worker_orcd::images::IMAGES;

use crate::Subject;
use crate::answer::Answer;
use crate::setting::{Memory, Setting};

/// A worker that serves in one setting.
pub(crate) struct Crowd {
    worker: Worker,
}

impl Crowd {
    pub(crate) fn load(file: &Path, subject: &Subject, setting: Setting) -> Result<Self, Failed> {
        let mut options = LoadOptions {
            path: file.to_owned(),
            quant: None,
            name: "subject".to_owned(),
            device: subject.device,
            numerics: Some(subject.numerics),
            images: IMAGES,
            image_cache: cache::images(),
            kv_bytes: None,
            step_tokens: Some(setting.step),
            prefix_cache: setting.prefix_cache,
            max_batch: Some(setting.streams),
            queue_depth: 1024,
            timeout: Duration::from_secs(3600),
            residency_interval: Duration::from_secs(3600),
        };
        // How many bytes a token takes is known of a worker that has any.
        options.kv_bytes = Some(1 << 20);
        let probe = Worker::load(options.clone(), |_| ())?;
        let page = probe.engine.limits().page_bytes;
        probe.stop(Duration::ZERO);
        // The longest follows up on the longest, or says a lot.
        let longest = (subject.prompt + 2 * subject.answer + 5).max(subject.talk + 4).div_ceil(32) as u64;
        let pages = match setting.memory {
            Memory::Ample => longest * setting.streams.min(64) as u64,
            Memory::Scarce => longest + 1,
        };
        options.kv_bytes = Some(pages * page);
        Ok(Self { worker: Worker::load(options, |_| ())? })
    }

    pub(crate) fn vocab(&self) -> usize {
        self.worker.info.vocab_size
    }

    /// The answers by the requests' numbers; `streams` are under way at a time, begun in this order.
    pub(crate) fn serve(&self, requests: &[(usize, Request)], streams: usize) -> Result<Vec<Answer>, Failed> {
        let next = AtomicUsize::new(0);
        let count = requests.iter().map(|(i, _)| i + 1).max().unwrap_or(0);
        let answers: Mutex<Vec<Option<Answer>>> = Mutex::new((0..count).map(|_| None).collect());
        let stream = || -> Result<(), String> {
            while let Some((i, request)) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = self.answer(request.clone()).map_err(|error| format!("request {i}: {error}"))?;
                answers.lock().map_err(|error| error.to_string())?[*i] = Some(answer);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..streams).map(|_| scope.spawn(stream)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| "a stream panicked".to_owned())?)
        })?;
        let answers = answers.into_inner().map_err(|error| error.to_string())?;
        Ok(answers.into_iter().map(Option::unwrap_or_default).collect())
    }

    fn answer(&self, request: Request) -> Result<Answer, String> {
        let (sender, events) = mpsc::channel();
        let sink = move |event: Event| {
            // The receiver waits for the last event.
            let _ = sender.send(event);
            Ok(())
        };
        self.worker.engine.submit(request, Box::new(sink)).map_err(|error| error.to_string())?;
        let mut answer = Answer::default();
        for event in events {
            if answer.take(event)? {
                return Ok(answer);
            }
        }
        Err("no end".to_owned())
    }

    /// What the requests went through, which must be what the setting is there for.
    pub(crate) fn paths(&self, setting: Setting) -> Result<String, Failed> {
        let status = self.worker.engine.status();
        let (preempted, cached) = (status.preemptions, status.cached_tokens);
        if setting.memory == Memory::Scarce && preempted == 0 {
            return Err(format!("{setting}: nobody was preempted").into());
        }
        // If all begin at once, there may be nothing to find.
        if (cached > 0 && !setting.prefix_cache)
            || (cached == 0 && setting.prefix_cache && setting.streams < 16)
        {
            return Err(format!("{setting}: {cached} tokens came from the cache").into());
        }
        Ok(format!("{preempted} preempted, {cached} tokens from the cache"))
    }

    pub(crate) fn stop(self) {
        self.worker.stop(Duration::ZERO);
    }
}
