package stub;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/** Objects of an image, and which of them are selected. */
public class Objects {
    private final List<PathObject> all = new ArrayList<>();
    private final Selection selection = new Selection();
    private int events;

    @SuppressWarnings("unchecked")
    public static List<PathObject> parse(String text) {
        Object found = Json.parse(text);
        Object features = found instanceof Map ? ((Map<String, Object>) found).get("features") : found;
        return ((List<Map<String, Object>>) features).stream().map(PathObject::new).collect(Collectors.toList());
    }

    public synchronized List<PathObject> getFlattenedObjectList(List<PathObject> into) {
        return new ArrayList<>(all);
    }

    public synchronized Collection<PathObject> getAnnotationObjects() {
        return all.stream().filter(PathObject::isAnnotation).collect(Collectors.toList());
    }

    public synchronized boolean addObjects(Collection<PathObject> objects) {
        events++;
        return all.addAll(objects); // as in QuPath, also those whose id is there
    }

    public synchronized void removeObjects(Collection<PathObject> objects, boolean keepChildren) {
        events++;
        all.removeAll(new LinkedHashSet<>(objects));
    }

    public synchronized void fireHierarchyChangedEvent(Object source) {
        events++;
    }

    public int getEvents() { return events; }
    public Selection getSelectionModel() { return selection; }

    public static class Selection {
        final Set<PathObject> chosen = new LinkedHashSet<>();
        public Set<PathObject> getSelectedObjects() { return chosen; }
    }
}
