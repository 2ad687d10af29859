//! Opening a log after anything that may have happened to it.
//!
//! Every record carries up to where the log was synced when it was written; the largest such number
//! is the mark. Segments from the one with the mark on are looked through, record by record:
//! - what stands behind the last record of the last segment is cut off. Where that is more than one
//!   record that was being written, or a long one without its header, which comes last, it is kept
//!   aside for people.
//! - positions that are missing before a record that is there are a gap: reported, never skipped in
//!   silence, and never given to another record.
//! - positions below the mark that are missing at the end are a gap as well: the disk lost what it
//!   had promised.
//!
//! Then what lies behind the mark is written once more and synced: after a failed sync the kernel
//! may hold pages that it takes for clean and that the disk does not have.
//!
//! Not here: damage in older segments; a reader finds it.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::format::{
    Beginning, HEADER_BYTES, RECORD_HEADER_BYTES, SegmentHeader, Stored, begin, padded,
};
use super::name::{aside_first, aside_name, segment_first, segment_name};
use super::reader::Gap;
use super::scan::{Walked, Window};
use super::segment::{Segment, Shared};
use super::storage::{SegmentFile, Storage};
use crate::limits::{
    LOG_ASIDE_FILES_MAX, LOG_GAPS_REPORTED_MAX, LOG_POSITIONS_MAX, LOG_READ_BYTES_MIN,
    LOG_SEGMENT_BYTES_MAX, LOG_SEGMENTS_MAX,
};

/// Why a log cannot be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// Another process, or another log of this one, has it.
    #[error("the log is open elsewhere")]
    Held,
    /// The directory belongs to another queue.
    #[error("the directory has the log of `{got}`, expected `{expected}`")]
    OtherQueue {
        /// Whose log it is.
        got: String,
        /// Whose log was wanted.
        expected: String,
    },
    /// A later program wrote it.
    #[error("the log has format {major}, which this program does not know")]
    Version {
        /// Its major number.
        major: u16,
    },
    /// A subject that no queue can have.
    #[error("the subject of a log has at most {max} bytes: {got}")]
    Subject {
        /// Its bytes.
        got: usize,
        /// What fits.
        max: usize,
    },
    /// More segments than a log can have.
    #[error("the log has {got} segments, at most {LOG_SEGMENTS_MAX} are possible")]
    Segments {
        /// How many there are.
        got: usize,
    },
    /// The system refused.
    #[error("cannot open the log")]
    System(#[from] io::Error),
}

/// What was cut off behind the last record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// First position of the segment.
    pub(crate) segment: u64,
    /// Where in its file.
    pub(crate) offset: u64,
    /// Until the last byte that was not zero.
    pub(crate) bytes: u64,
    /// The file that has them now, where they were more than one torn record.
    pub(crate) aside: Option<String>,
}

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The first position that is there.
    pub(crate) first: u64,
    /// The position that the next record gets.
    pub(crate) next: u64,
    /// All positions below this were known to be synced.
    pub(crate) mark: u64,
    /// Segment files.
    pub(crate) segments: usize,
    /// Records that were looked at.
    pub(crate) records_scanned: u64,
    /// What was cut off.
    pub(crate) cut: Option<Cut>,
    /// Records that should be there and are not, as far as there is room here.
    pub(crate) gaps: Vec<Gap>,
    /// All gaps.
    pub(crate) gap_count: u64,
}

/// An opened log, ready to be written.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) shared: Shared,
    pub(super) active: Arc<Segment>,
    pub(super) file: Arc<dyn SegmentFile>,
    /// Where the next record goes.
    pub(super) offset: u64,
    /// When the newest record was accepted, as far as it was seen.
    pub(super) newest_ns: u64,
    pub(super) recovered: Recovered,
}

/// What a log is opened with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening<'a> {
    pub(super) subject: &'a str,
    pub(super) segment_bytes: u64,
    pub(super) now_ns: u64,
    /// For a log that has none yet.
    pub(super) salt: u64,
}

/// A segment file that was found.
struct Present {
    first: u64,
    header: Option<SegmentHeader>,
    length: u64,
}

/// The work in progress.
struct Recovery<'a> {
    storage: Arc<dyn Storage>,
    opening: Opening<'a>,
    window: Window,
    recovered: Recovered,
    newest_ns: u64,
}

/// Makes a segment file: space first, then the header, so that a full disk leaves nothing.
pub(super) fn make_segment(
    storage: &dyn Storage,
    header: &SegmentHeader,
    capacity: u64,
) -> io::Result<(Arc<Segment>, Arc<dyn SegmentFile>)> {
    let name = segment_name(header.first);
    let file = match storage.create(&name) {
        // Left by an attempt that failed; nothing was ever stored in it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.remove(&name)?;
            storage.create(&name)?
        }
        result => result?,
    };
    let written = file.allocate(capacity).and_then(|()| file.write_at(&header.encode(), 0));
    if let Err(error) = written {
        // If this fails too, the next attempt or the next start removes it.
        let _ = storage.remove(&name);
        return Err(error);
    }
    let segment = Segment::new(header.first, header.salt, header.created_ns, capacity);
    segment.keep_open(Arc::clone(&file));
    Ok((Arc::new(segment), file))
}

/// Opens what is there, or makes a new log.
pub(super) fn recover(
    storage: Arc<dyn Storage>,
    opening: Opening<'_>,
) -> Result<Opened, OpenError> {
    let (window, recovered) = (Window::new(), Recovered::default());
    let recovery = Recovery { storage, opening, window, recovered, newest_ns: 0 };
    let present = recovery.list()?;
    let salt = present.iter().rev().find_map(|file| Some(file.header.as_ref()?.salt));
    match salt {
        Some(salt) if !present.is_empty() => recovery.open(&present, salt),
        _ => recovery.start_anew(&present),
    }
}

impl Recovery<'_> {
    /// The segment files with what they say of themselves, in order.
    fn list(&self) -> Result<Vec<Present>, OpenError> {
        let names = self.storage.list()?;
        let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment_first(name)).collect();
        firsts.sort_unstable();
        if firsts.len() > LOG_SEGMENTS_MAX {
            return Err(OpenError::Segments { got: firsts.len() });
        }
        firsts.into_iter().map(|first| self.inspect(first)).collect()
    }

    fn inspect(&self, first: u64) -> Result<Present, OpenError> {
        let file = self.storage.open(&segment_name(first))?;
        let mut page = [0; HEADER_BYTES];
        let filled = file.read_at(&mut page, 0)?;
        let header =
            SegmentHeader::decode(&page[..filled]).map_err(|major| OpenError::Version { major })?;
        if let Some(SegmentHeader { subject, .. }) = &header
            && subject != self.opening.subject
        {
            let expected = self.opening.subject.to_owned();
            return Err(OpenError::OtherQueue { got: subject.clone(), expected });
        }
        let is_possible =
            |header: &SegmentHeader| header.first == first && header.synced < LOG_POSITIONS_MAX;
        let header = header.filter(is_possible);
        Ok(Present { first, header, length: file.length()? })
    }

    fn report(&mut self, first: u64, next: u64) {
        if first < next {
            self.recovered.gap_count += 1;
            if self.recovered.gaps.len() < LOG_GAPS_REPORTED_MAX {
                self.recovered.gaps.push(Gap { first, next });
            }
        }
    }

    /// A first segment. Files whose headers are all unreadable cannot be read: they are kept aside,
    /// and their positions, as many as could have been there, are not given out again.
    fn start_anew(mut self, present: &[Present]) -> Result<Opened, OpenError> {
        let mut next = 0;
        for Present { first, length, .. } in present {
            let name = segment_name(*first);
            let file = self.storage.open(&name)?;
            let end = self.window.written_end(&*file, HEADER_BYTES as u64)?;
            self.window.discard(0);
            next = next.max(*first);
            if end == HEADER_BYTES as u64 {
                // A first segment whose making was interrupted.
                self.storage.remove(&name)?;
                continue;
            }
            let aside = aside_name(*first, 0);
            self.storage.rename(&name, &aside)?;
            let possible = first.saturating_add(length / RECORD_HEADER_BYTES as u64);
            self.report(*first, possible);
            next = next.max(possible);
            let cut = Cut { segment: *first, offset: 0, bytes: *length, aside: Some(aside) };
            self.recovered.cut = Some(cut);
        }
        let next = next.min(LOG_POSITIONS_MAX - 1);
        let header = SegmentHeader {
            first: next,
            salt: self.opening.salt,
            created_ns: self.opening.now_ns,
            synced: next,
            subject: self.opening.subject.to_owned(),
        };
        let (active, file) = make_segment(&*self.storage, &header, self.opening.segment_bytes)?;
        file.sync()?;
        self.storage.sync_directory()?;
        active.set_entered();
        self.recovered.mark = next;
        Ok(self.finish(vec![active], file, Walked { offset: HEADER_BYTES as u64, next }))
    }

    fn open(mut self, present: &[Present], salt: u64) -> Result<Opened, OpenError> {
        let segments: Vec<Arc<Segment>> = present
            .iter()
            .map(|Present { first, header, length }| {
                let salt = header.as_ref().map_or(salt, |header| header.salt);
                // An unknown age is no age that retention may act on.
                let created = header.as_ref().map_or(u64::MAX, |header| header.created_ns);
                Arc::new(Segment::new(*first, salt, created, *length))
            })
            .collect();
        for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
            segment.close_at(next.first);
        }
        let headers = present.iter().filter_map(|file| file.header.as_ref());
        self.recovered.mark = headers.map(|header| header.synced).max().unwrap_or(0);
        let known = segments.partition_point(|segment| segment.first <= self.recovered.mark);
        let doubtful = &segments[known.saturating_sub(1)..];
        let mut walks = Vec::with_capacity(doubtful.len());
        for segment in doubtful {
            walks.push(self.walk(segment)?);
        }
        let (Some(active), Some(last)) = (segments.last(), walks.last_mut()) else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        // The disk lost what it had promised, at the very end.
        self.report(last.next, self.recovered.mark);
        last.next = last.next.max(self.recovered.mark);
        let has_header = present.last().is_some_and(|file| file.header.is_some());
        let file = self.mend(active, *last, has_header)?;
        let last = *last;
        for (segment, walked) in doubtful.iter().zip(&walks) {
            self.write_again(segment, walked.offset)?;
        }
        self.storage.sync_directory()?;
        segments.iter().for_each(|segment| segment.set_entered());
        Ok(self.finish(segments, file, last))
    }

    /// Looks through one segment and reports what is missing in it.
    fn walk(&mut self, segment: &Segment) -> io::Result<Walked> {
        let file = segment.open(&*self.storage)?;
        let (mut expected, mut gaps) = (segment.first, Vec::new());
        let recovered = &mut self.recovered;
        let newest_ns = &mut self.newest_ns;
        self.window.discard(0);
        let visit = |stored: &Stored<'_>, offset: u64, _size: usize| {
            if stored.position > expected {
                gaps.push((expected, stored.position));
            }
            expected = stored.position + 1;
            segment.note(stored.position, offset);
            recovered.records_scanned += 1;
            if stored.synced <= stored.position {
                recovered.mark = recovered.mark.max(stored.synced);
            }
            *newest_ns = (*newest_ns).max(stored.record.time_ns);
        };
        let accepted = segment.first..segment.end().min(LOG_POSITIONS_MAX);
        let walked = self.window.walk(&*file, segment.salt, accepted, visit)?;
        for (first, next) in gaps {
            self.report(first, next);
        }
        if segment.end() != u64::MAX {
            self.report(walked.next, segment.end());
        }
        Ok(walked)
    }

    /// Makes the last segment one that can be written: nothing behind its last record, space
    /// ahead, a header.
    fn mend(
        &mut self,
        active: &Arc<Segment>,
        walked: Walked,
        has_header: bool,
    ) -> io::Result<Arc<dyn SegmentFile>> {
        let file = active.open(&*self.storage)?;
        active.keep_open(Arc::clone(&file));
        self.window.discard(0);
        let end = self.window.written_end(&*file, walked.offset)?;
        if end > walked.offset {
            self.cut(active, &*file, walked, end)?;
        }
        let capacity = active.capacity().clamp(self.opening.segment_bytes, LOG_SEGMENT_BYTES_MAX);
        if file.length()? > walked.offset {
            file.truncate(walked.offset)?;
        }
        file.allocate(capacity)?;
        active.set_capacity(capacity);
        if !has_header {
            let header = SegmentHeader {
                first: active.first,
                salt: active.salt,
                created_ns: self.opening.now_ns,
                synced: active.first.min(self.recovered.mark),
                subject: self.opening.subject.to_owned(),
            };
            file.write_at(&header.encode(), 0)?;
        }
        Ok(file)
    }

    /// Notes what is cut off, and keeps it where it is more than a record that was being written.
    fn cut(
        &mut self,
        active: &Segment,
        file: &dyn SegmentFile,
        walked: Walked,
        end: u64,
    ) -> io::Result<()> {
        let bytes = end - walked.offset;
        self.window.discard(0);
        let first = self.window.read(file, walked.offset, RECORD_HEADER_BYTES)?;
        let accepted = walked.next..u64::MAX;
        let claimed = match begin(first, active.salt, &accepted) {
            Beginning::Record(size) => size as u64,
            // Half a header; its length was written first.
            Beginning::Damaged if bytes <= RECORD_HEADER_BYTES as u64 => bytes,
            Beginning::Damaged | Beginning::Nothing => 0,
        };
        let mut aside = None;
        if bytes > claimed {
            let name = aside_name(active.first, walked.offset);
            self.keep_aside(file, walked.offset, end, &name)?;
            aside = Some(name);
        }
        let segment = active.first;
        self.recovered.cut = Some(Cut { segment, offset: walked.offset, bytes, aside });
        Ok(())
    }

    fn keep_aside(
        &mut self,
        file: &dyn SegmentFile,
        from: u64,
        end: u64,
        name: &str,
    ) -> io::Result<()> {
        let names = self.storage.list()?;
        let mut kept: Vec<&String> =
            names.iter().filter(|name| aside_first(name).is_some()).collect();
        kept.sort_unstable();
        let surplus = (kept.len() + 1).saturating_sub(LOG_ASIDE_FILES_MAX);
        for old in kept.into_iter().take(surplus).filter(|old| *old != name) {
            self.storage.remove(old)?;
        }
        if names.iter().any(|present| present == name) {
            self.storage.remove(name)?;
        }
        let copy = self.storage.create(name)?;
        let mut at = from;
        while at < end {
            let bytes = self.window.read(file, at, 1)?;
            let count = bytes.len().min((end - at) as usize);
            if count == 0 {
                break;
            }
            copy.write_at(&bytes[..count], at - from)?;
            at += count as u64;
        }
        copy.sync()
    }

    /// Writes what may not be on the disk once more, as it is, and syncs it.
    fn write_again(&mut self, segment: &Segment, end: u64) -> io::Result<()> {
        let file = segment.open(&*self.storage)?;
        let mark = self.recovered.mark;
        let mut at = if mark <= segment.first { 0 } else { segment.nearest(mark).1 };
        let mut chunk = vec![0; LOG_READ_BYTES_MIN];
        while at < end {
            let wanted = chunk.len().min((end - at) as usize);
            let count = file.read_at(&mut chunk[..wanted], at)?;
            if count == 0 {
                break;
            }
            file.write_at(&chunk[..count], at)?;
            at += count as u64;
        }
        file.sync()
    }

    fn finish(
        mut self,
        segments: Vec<Arc<Segment>>,
        file: Arc<dyn SegmentFile>,
        walked: Walked,
    ) -> Opened {
        debug_assert_eq!(padded(walked.offset as usize) as u64, walked.offset);
        let active = Arc::clone(&segments[segments.len() - 1]);
        self.recovered.first = segments[0].first;
        self.recovered.next = walked.next;
        self.recovered.segments = segments.len();
        Opened {
            shared: Shared::new(self.storage, segments, walked.next),
            active,
            file,
            offset: walked.offset,
            newest_ns: self.newest_ns,
            recovered: self.recovered,
        }
    }
}
